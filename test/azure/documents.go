package azure

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

const analyses = "documentintelligence/analyses"

// analyzeDocument accepts a document of any kind. The result is fetched from
// the address in Operation-Location.
func analyzeDocument(x *exchange) {
	var size int64
	if !x.rule.Early {
		size, _ = io.Copy(io.Discard, x.r.Body)
	}
	text := Reply(x.values[0], fmt.Sprintf("a document of %d bytes", size))
	id := newGUID()
	x.emulator.objects.put(analyses, object{"id": id, "status": "running", "analyzeResult": analysisOf(x, text)})
	x.accept(fmt.Sprintf("/documentintelligence/documentModels/%s/analyzeResults/%s?api-version=%s",
		x.values[0], id, x.r.URL.Query().Get("api-version")))
	x.send(http.StatusAccepted, "", nil)
}

func analysisOf(x *exchange, text string) object {
	span := object{"offset": 0, "length": len(text)}
	return object{
		"apiVersion": x.r.URL.Query().Get("api-version"), "modelId": x.values[0], "stringIndexType": "textElements",
		"contentFormat": "markdown", "content": text, "styles": []object{}, "paragraphs": []object{},
		"pages": []object{{
			"pageNumber": 1, "angle": 0.0, "width": 8.5, "height": 11.0, "unit": "inch", "spans": []object{span}, "words": []object{},
			"lines": []object{{"content": text, "polygon": []float64{1, 1, 2, 1, 2, 2, 1, 2}, "spans": []object{span}}},
		}},
	}
}

// analyzeResult is running when asked first and succeeded ever after.
func analyzeResult(x *exchange) {
	o, ok := x.emulator.objects.get(analyses, x.values[1])
	if !ok {
		x.json(http.StatusNotFound, object{"error": object{"code": "NotFound", "message": "Resource not found."}})
		return
	}
	now := time.Now().UTC().Format(time.RFC3339)
	answer := object{"status": o["status"], "createdDateTime": now, "lastUpdatedDateTime": now}
	if o["status"] == "succeeded" {
		answer["analyzeResult"] = o["analyzeResult"]
	}
	x.emulator.objects.put(analyses, with(o, object{"status": "succeeded"}))
	x.w.Header()["Retry-After"] = []string{"1"}
	x.json(http.StatusOK, answer)
}
