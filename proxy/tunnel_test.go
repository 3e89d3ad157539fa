package proxy

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echoWebSocket accepts a WebSocket and sends every message back.
func echoWebSocket(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{"realtime"}, CompressionMode: websocket.CompressionContextTakeover,
		})
		if err != nil {
			t.Errorf("the upstream: %v", err)
			return
		}
		c.SetReadLimit(-1)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				_ = c.CloseNow()
				return
			}
			if err := c.Write(ctx, kind, message); err != nil {
				return
			}
		}
	}
}

func assertEcho(t *testing.T, c *websocket.Conn, message string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != message {
		t.Fatalf("%q came back as %q: %v", message, got, err)
	}
}
