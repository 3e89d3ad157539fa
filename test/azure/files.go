package azure

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// uploadFile writes the file straight to disk: LiteLLM sends 50 MB and more,
// and the emulator's memory must not depend on it.
func uploadFile(x *exchange) {
	id := newID("file-")
	f, err := os.Create(x.emulator.contentOf(id))
	if err != nil {
		x.fail(http.StatusInternalServerError, "server_error", "The file could not be stored.")
		return
	}
	defer f.Close()
	form, ok := x.form(f)
	if !ok {
		return
	}
	if len(form.files) != 1 {
		x.fail(http.StatusBadRequest, "invalid_request_error", "Exactly one file is required.")
		return
	}
	o := fileOf(id, form.files[0].name, form.fields["purpose"], form.size())
	o["sha256"] = form.files[0].sha256
	x.emulator.objects.put("files", o)
	x.json(http.StatusOK, o)
}

func fileOf(id, name, purpose string, size int64) object {
	return object{
		"id": id, "object": "file", "created_at": time.Now().Unix(), "status": "processed",
		"filename": name, "purpose": purpose, "bytes": size,
	}
}

// contentOf is where the content of a stored object lies. Identifiers are our
// own, so they are safe in a path.
func (e *Emulator) contentOf(id string) string { return filepath.Join(e.dir, id) }

// downloadFile streams the content back as it came.
func downloadFile(x *exchange) {
	_, o, ok := x.findAbove()
	if !ok {
		return
	}
	f, err := os.Open(x.emulator.contentOf(o["id"].(string)))
	if err != nil {
		x.missing(o["id"].(string))
		return
	}
	defer f.Close()
	size := o["bytes"].(int64)
	x.begin(http.StatusOK, "application/octet-stream")
	x.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	x.w.WriteHeader(http.StatusOK)
	if cut := x.rule.Cut; cut != nil {
		_, _ = io.CopyN(x.w, f, min(orElse(int64(cut.After), size/2), size))
		x.cut()
		return
	}
	_, _ = io.Copy(x.w, f) // fails when the client has gone
}

func deleteFile(x *exchange) {
	_, id := x.item()
	if !x.emulator.objects.remove("files", id) {
		x.missing(id)
		return
	}
	_ = os.Remove(x.emulator.contentOf(id))
	x.json(http.StatusOK, object{"id": id, "object": "file", "deleted": true})
}
