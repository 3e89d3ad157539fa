package azure

import (
	"net/http"
	"time"
)

var containers = collection{
	path: "containers", action: "OpenAI/containers", object: "container", prefix: "cntr_",
	create: func(_ *exchange, o object) {
		o["status"] = "running"
		o["last_active_at"] = time.Now().Unix()
	},
}

var containerFiles = collection{
	path: "containers/{container_id}/files", action: "OpenAI/containers", object: "container.file", prefix: "cfile_",
	create: func(_ *exchange, o object) { o["source"] = "user" },
}

// containerFile stands for the content of any file in a container.
func containerFile(x *exchange) {
	if _, o, ok := x.findAbove(); ok {
		x.send(http.StatusOK, "application/octet-stream", []byte(o["id"].(string)))
	}
}

var videos = collection{
	path: "videos", action: "OpenAI/video/generations", object: "video", prefix: "video_",
	create: func(_ *exchange, o object) {
		o["status"], o["progress"] = "queued", 0
	},
	later: func(*exchange, object) object {
		return object{"status": "completed", "progress": 100, "completed_at": time.Now().Unix()}
	},
}

// videoContent begins like an MP4 file and is as long as the pace asks.
func videoContent(x *exchange) {
	if _, o, ok := x.findAbove(); ok {
		prompt, _ := o["prompt"].(string)
		x.send(http.StatusOK, "video/mp4", append([]byte("\x00\x00\x00\x18ftypmp42"), sound(prompt, x.pace)...))
	}
}

func remixVideo(x *exchange) {
	sent, ok := x.fields()
	if !ok {
		return
	}
	collection, source, ok := x.findAbove()
	if !ok {
		return
	}
	o := with(with(source, sent), object{"id": newID("video_"), "remixed_from_video_id": source["id"]})
	x.emulator.objects.put(collection, o)
	x.json(http.StatusOK, o)
}
