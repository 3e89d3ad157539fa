package azure

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"time"
)

type imageRequest struct {
	Model          string `json:"model"`
	Prompt         string `json:"prompt"`
	N              int    `json:"n"`
	ResponseFormat string `json:"response_format"`
}

func imageGenerations(x *exchange) {
	var q imageRequest
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	x.json(http.StatusOK, pictures(x.model, q))
}

// imageEdits takes the pictures as a form, and says what it received.
func imageEdits(x *exchange) {
	f, ok := x.form(io.Discard)
	if !ok || !x.findDeployment(f.fields["model"]) {
		return
	}
	prompt := fmt.Sprintf("%s, %d images, %d bytes", f.fields["prompt"], len(f.files), f.size())
	x.json(http.StatusOK, pictures(x.model, imageRequest{Prompt: prompt, ResponseFormat: "b64_json"}))
}

// pictures are one pixel each. A url leads to blob storage, as in Azure: it is
// no address of the resource, and a proxy must leave it alone.
func pictures(model string, q imageRequest) object {
	data := []object{}
	for range min(max(1, q.N), 10) {
		picture := object{"revised_prompt": Reply(model, q.Prompt)}
		if q.ResponseFormat == "b64_json" || strings.HasPrefix(model, "gpt-image") {
			picture["b64_json"] = pixel()
		} else {
			picture["url"] = "https://dalleemulated.blob.core.windows.net/private/images/" + newGUID() + "/generated_00.png"
		}
		data = append(data, picture)
	}
	return object{"created": time.Now().Unix(), "data": data}
}

func pixel() string {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))) // a buffer takes everything
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

const imageOperations = "operations/images"

// submitImages begins the asynchronous generation of the older api-versions.
func submitImages(x *exchange) {
	var q imageRequest
	if !x.decode(&q) {
		return
	}
	operation := object{"id": newGUID(), "created": time.Now().Unix(), "result": pictures("dall-e-2", q)}
	x.emulator.objects.put(imageOperations, operation)
	x.accept(fmt.Sprintf("/openai/%s/%s?%s", imageOperations, operation["id"], x.r.URL.RawQuery))
	x.json(http.StatusAccepted, object{"id": operation["id"], "status": "notRunning"})
}

func imageOperation(x *exchange) {
	operation, ok := x.emulator.objects.get(imageOperations, x.values[0])
	if !ok {
		x.give(refuse(http.StatusNotFound, bodyNotFound))
		return
	}
	x.json(http.StatusOK, with(operation, object{"status": "succeeded"}))
}

// accept points to where the outcome of a long operation will be: an absolute
// URL on the very host that the client named.
func (x *exchange) accept(target string) {
	x.w.Header()["operation-location"] = []string{"https://" + x.r.Host + target}
	x.w.Header()["Retry-After"] = []string{"1"}
}
