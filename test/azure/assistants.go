package azure

import (
	"net/http"
	"path"
	"strings"
	"time"
)

var assistants = collection{path: "assistants", action: "OpenAI/assistants", object: "assistant", prefix: "asst_"}

var threads = collection{
	path: "threads", action: "OpenAI/assistants", object: "thread", prefix: "thread_",
	later: func(x *exchange, thread object) object {
		addMessages(x, collectionName(x.r.URL.Path), thread)
		return nil
	},
}

var threadMessages = collection{
	path: "threads/{thread_id}/messages", action: "OpenAI/assistants", object: "thread.message", prefix: "msg_",
	create: func(x *exchange, o object) {
		thread := path.Base(path.Dir(x.r.URL.Path))
		text, _ := o["content"].(string)
		role, _ := o["role"].(string)
		for name, value := range messageOf(thread, role, text) {
			if _, isText := o[name].(string); name != "id" && (o[name] == nil || name == "content" && isText) {
				o[name] = value
			}
		}
	},
}

var threadRuns = collection{
	path: "threads/{thread_id}/runs", action: "OpenAI/assistants", object: "thread.run", prefix: "run_",
	create: func(x *exchange, o object) {
		o["status"] = "queued"
		o["thread_id"] = path.Base(path.Dir(x.r.URL.Path))
	},
	later: func(x *exchange, run object) object {
		if run["stream"] != true { // a stream says itself when
			answerThread(x, path.Dir(collectionName(x.r.URL.Path)), run)
		}
		return object{"status": "completed", "completed_at": time.Now().Unix()}
	},
	stream: streamRun,
}

// addMessages stores the messages that came with a new thread.
func addMessages(x *exchange, threads string, thread object) {
	sent, _ := thread["messages"].([]any)
	id := thread["id"].(string)
	for _, m := range sent {
		if m, ok := m.(object); ok {
			text, _ := m["content"].(string)
			role, _ := m["role"].(string)
			x.emulator.objects.put(threads+"/"+id+"/messages", messageOf(id, role, text))
		}
	}
}

func messageOf(thread, role, text string) object {
	return object{
		"id": newID("msg_"), "object": "thread.message", "created_at": time.Now().Unix(), "thread_id": thread,
		"role": role, "status": "completed", "attachments": []object{}, "metadata": object{},
		"content": []object{{"type": "text", "text": object{"value": text, "annotations": []object{}}}},
	}
}

// answerThread stores the assistant's reply to the thread's last user message.
func answerThread(x *exchange, thread string, run object) object {
	messages := x.emulator.objects.list(thread + "/messages")
	prompt := ""
	for _, m := range messages {
		if m["role"] == "user" {
			prompt = textOf(m)
		}
	}
	reply := messageOf(path.Base(thread), "assistant", Reply(assistantModel(x, thread, run), prompt))
	reply["run_id"], reply["assistant_id"] = run["id"], run["assistant_id"]
	x.emulator.objects.put(thread+"/messages", reply)
	return reply
}

func textOf(message object) string {
	parts, _ := message["content"].([]object)
	if len(parts) == 0 {
		return ""
	}
	text, _ := parts[0]["text"].(object)
	value, _ := text["value"].(string)
	return value
}

// assistantModel is the run's own choice, or its assistant's.
func assistantModel(x *exchange, thread string, run object) string {
	if model, ok := run["model"].(string); ok {
		return model
	}
	id, _ := run["assistant_id"].(string)
	siblings := strings.TrimSuffix(path.Dir(thread), "threads") + "assistants"
	assistant, _ := x.emulator.objects.get(siblings, id)
	model, _ := assistant["model"].(string)
	return orElse(model, "assistant")
}

// streamRun is a run told event by event.
func streamRun(x *exchange, run object) {
	reply := answerThread(x, path.Dir(collectionName(x.r.URL.Path)), run)
	s := x.events()
	s.send("thread.run.created", with(run, object{"status": "queued"}))
	s.send("thread.run.in_progress", with(run, object{"status": "in_progress"}))
	s.send("thread.message.created", with(reply, object{"status": "in_progress", "content": []object{}}))
	for _, piece := range x.pace.pieces(textOf(reply)) {
		s.send("thread.message.delta", object{"id": reply["id"], "object": "thread.message.delta", "delta": object{
			"content": []object{{"index": 0, "type": "text", "text": object{"value": piece, "annotations": []object{}}}},
		}})
	}
	s.send("thread.message.completed", reply)
	s.send("thread.run.completed", run)
	s.raw("done", []byte("[DONE]"))
}

// createThreadAndRun is a thread with its first run in one request.
func createThreadAndRun(x *exchange) {
	sent, ok := x.fields()
	if !ok {
		return
	}
	name := strings.TrimSuffix(collectionName(x.r.URL.Path), "/runs")
	messages, _ := sent["thread"].(object)
	thread := with(orEmpty(messages), object{"id": newID("thread_"), "object": "thread", "created_at": time.Now().Unix()})
	x.emulator.objects.put(name, thread)
	addMessages(x, name, thread)
	below := name + "/" + thread["id"].(string)
	run := with(sent, object{
		"id": newID("run_"), "object": "thread.run", "created_at": time.Now().Unix(),
		"thread_id": thread["id"], "status": "completed",
	})
	x.emulator.objects.put(below+"/runs", run)
	answerThread(x, below, run)
	x.json(http.StatusOK, with(run, object{"status": "queued"}))
}
