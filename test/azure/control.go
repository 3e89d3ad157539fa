package azure

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const controlHelp = `GET    /faults          the faults in force
PUT    /faults          change them by a JSON merge patch
DELETE /faults          back to those of the start
POST   /faults/NAME     add one by name
GET    /fault-names     the names
GET    /requests        what Azure received; ?after=ID only later ones
DELETE /requests        forget them
GET    /token-requests  what Entra received
DELETE /token-requests  forget them
POST   /revoke          refuse every token issued so far
POST   /rotate-keys     sign with a new key from now on
GET    /env             the environment for a client
`

// controlHandler is the control API: the methods of Emulator over HTTP. It
// changes state without authentication, so web pages are kept out.
func (e *Emulator) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, controlHelp) })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { respond(w, e.switches.get()) })
	mux.HandleFunc("PUT /faults", e.patchFaults)
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { e.Reset(); respond(w, e.switches.get()) })
	mux.HandleFunc("POST /faults/{name}", e.addFault)
	mux.HandleFunc("GET /fault-names", func(w http.ResponseWriter, _ *http.Request) { respond(w, FaultNames()) })
	mux.HandleFunc("GET /requests", e.listRequests)
	mux.HandleFunc("DELETE /requests", done(e.requests.clear))
	mux.HandleFunc("GET /token-requests", func(w http.ResponseWriter, _ *http.Request) { respond(w, e.TokenRequests()) })
	mux.HandleFunc("DELETE /token-requests", done(e.issued.clear))
	mux.HandleFunc("POST /revoke", done(e.Revoke))
	mux.HandleFunc("POST /rotate-keys", func(w http.ResponseWriter, _ *http.Request) { conclude(w, e.RotateKeys()) })
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Join(e.Env(), "\n")+"\n")
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func (e *Emulator) patchFaults(w http.ResponseWriter, r *http.Request) {
	patch, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = e.change(func(f *Faults) (err error) { *f, err = f.Patched(patch); return err })
	}
	conclude(w, err)
}

func (e *Emulator) addFault(w http.ResponseWriter, r *http.Request) {
	conclude(w, e.change(func(f *Faults) error { return f.Add(r.PathValue("name")) }))
}

func (e *Emulator) listRequests(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after")) // 0 means all
	requests := []Request{}
	for _, request := range e.Requests() {
		if request.ID > after {
			requests = append(requests, request)
		}
	}
	respond(w, requests)
}

func done(action func()) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		action()
		w.WriteHeader(http.StatusNoContent)
	}
}

// conclude answers a change: a mistake in it is the client's.
func conclude(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func respond(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client is gone, if anything
}
