package azure

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transcriptions says what it received, so that a test sees whether an upload
// arrived whole. It serves translations as well.
func transcriptions(x *exchange) {
	f, ok := x.form(io.Discard)
	if !ok || !x.findDeployment(f.fields["model"]) {
		return
	}
	heard := "nothing"
	if len(f.files) > 0 {
		heard = fmt.Sprintf("%s, %d bytes, sha256 %s", f.files[0].name, f.files[0].size, f.files[0].sha256)
	}
	text := Reply(x.model, heard)
	switch f.fields["response_format"] {
	case "text":
		x.send(http.StatusOK, "text/plain; charset=utf-8", []byte(text+"\n"))
	case "srt":
		x.send(http.StatusOK, "text/plain; charset=utf-8", []byte("1\n00:00:00,000 --> 00:00:01,000\n"+text+"\n\n"))
	case "vtt":
		x.send(http.StatusOK, "text/vtt; charset=utf-8", []byte("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n"+text+"\n\n"))
	case "verbose_json":
		x.json(http.StatusOK, object{
			"task": "transcribe", "language": "english", "duration": 1.0, "text": text,
			"segments": []object{{"id": 0, "start": 0.0, "end": 1.0, "text": text}},
		})
	default:
		x.json(http.StatusOK, object{"text": text})
	}
}

// speech answers with bytes that are no real sound but begin like an MP3 file
// and carry the spoken text.
func speech(x *exchange) {
	var q struct {
		Model string `json:"model"`
		Input string `json:"input"`
	}
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	x.send(http.StatusOK, "audio/mpeg", sound(Reply(x.model, q.Input), x.pace))
}

// textToSpeech is the Speech service's endpoint, which takes SSML.
func textToSpeech(x *exchange) {
	var ssml []byte
	if !x.rule.Early {
		ssml, _ = io.ReadAll(x.r.Body)
	}
	x.send(http.StatusOK, "audio/mpeg", sound(string(ssml), x.pace))
}

// sound is as long as the pace asks: chunks times bytes per chunk.
func sound(text string, p Pace) []byte {
	data := append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00"), text...)
	if missing := p.Chunks*p.ChunkBytes - len(data); missing > 0 {
		data = append(data, bytes.Repeat([]byte{0xff, 0xfb, 0x90, 0x00}, missing/4+1)[:missing]...)
	}
	return data
}

func voices(x *exchange) {
	x.json(http.StatusOK, []object{{
		"ShortName": "en-US-AvaNeural", "Locale": "en-US", "Gender": "Female", "VoiceType": "Neural",
		"Status": "GA", "LastUpdated": time.Time{}.Format(time.DateOnly),
	}})
}
