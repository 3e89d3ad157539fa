package azure

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
)

// form is a multipart body as it went by: files are measured, not held.
type form struct {
	fields map[string]string
	files  []upload
}

// upload is one file of a form.
type upload struct {
	field, name string
	size        int64
	sha256      string // hex
}

// maxField bounds a field that is no file.
const maxField = 1 << 20

// form reads the body part by part and copies the content of files to w. A
// body that is no form is answered here.
func (x *exchange) form(w io.Writer) (form, bool) {
	f := form{fields: map[string]string{}}
	if x.rule.Early {
		return f, true
	}
	parts, err := x.r.MultipartReader()
	for err == nil {
		var part *multipart.Part
		if part, err = parts.NextPart(); err == nil {
			err = f.add(part, w)
		}
	}
	x.drain() // the end of the body lies behind the last boundary
	if errors.Is(err, io.EOF) {
		return f, true
	}
	if x.r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	x.fail(http.StatusBadRequest, "invalid_request_error", "The request body is not a valid multipart form.")
	return f, false
}

func (f *form) add(part *multipart.Part, w io.Writer) error {
	if part.FileName() == "" {
		value, err := io.ReadAll(io.LimitReader(part, maxField))
		f.fields[part.FormName()] = string(value)
		return err
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(sum, w), part)
	f.files = append(f.files, upload{
		field: part.FormName(), name: part.FileName(), size: size, sha256: hex.EncodeToString(sum.Sum(nil)),
	})
	return err
}

// size is that of all files together, in bytes.
func (f *form) size() (total int64) {
	for _, file := range f.files {
		total += file.size
	}
	return total
}
