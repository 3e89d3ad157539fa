package azure

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"time"
)

var batches = collection{
	path: "batches", action: "OpenAI/batch-jobs", object: "batch", prefix: "batch_",
	create: func(_ *exchange, o object) {
		o["status"] = "validating"
		o["request_counts"] = object{"total": 0, "completed": 0, "failed": 0}
	},
	later: finishBatch,
}

// finishBatch answers the lines of the input file into an output file, at
// once: no test wants to wait for the real hours.
func finishBatch(x *exchange, batch object) object {
	id := newID("file-")
	input, _ := batch["input_file_id"].(string)
	var lines int
	var size int64
	if _, ok := x.emulator.objects.get("files", input); ok {
		lines, size = answerLines(x.emulator.contentOf(input), x.emulator.contentOf(id))
	}
	x.emulator.objects.put("files", fileOf(id, "output.jsonl", "batch_output", size))
	return object{
		"status": "completed", "completed_at": time.Now().Unix(), "output_file_id": id,
		"request_counts": object{"total": lines, "completed": lines, "failed": 0},
	}
}

// answerLines returns the number of lines and the size of what it wrote.
func answerLines(input, output string) (lines int, size int64) {
	in, err := os.Open(input)
	if err != nil {
		return 0, 0
	}
	defer in.Close()
	out, err := os.Create(output)
	if err != nil {
		return 0, 0
	}
	defer out.Close()
	encoder := json.NewEncoder(out)
	for scanner := bufio.NewScanner(in); scanner.Scan(); lines++ {
		var q struct {
			CustomID string      `json:"custom_id"`
			Body     chatRequest `json:"body"`
		}
		_ = json.Unmarshal(scanner.Bytes(), &q) // what is no request has no prompt
		text := Reply(q.Body.Model, lastUser(q.Body.Messages))
		_ = encoder.Encode(object{"custom_id": q.CustomID, "error": nil, "response": object{
			"status_code": http.StatusOK, "body": newChat(q.Body.Model, "chat.completion", chatChoice{
				ContentFilterResults: safe(), FinishReason: new("stop"), Message: &chatMessage{Content: &text, Role: "assistant"},
			}),
		}})
	}
	info, err := out.Stat()
	if err != nil {
		return lines, 0
	}
	return lines, info.Size()
}

var fineTuningJobs = collection{
	path: "fine_tuning/jobs", action: "OpenAI/fine-tunes", object: "fine_tuning.job", prefix: "ftjob-",
	create: func(_ *exchange, o object) { o["status"] = "pending" },
	later:  func(*exchange, object) object { return object{"status": "running"} },
}
