package azure

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// collection is a kind of object that clients create, list, read, change and
// delete, all in OpenAI's one way.
type collection struct {
	path   string // below /openai, /openai/v1 or a project: threads/{thread_id}/messages
	action string // OpenAI/assistants, to which /read, /write or /delete is added
	object string // what the objects call themselves: thread.message
	prefix string // of their identifiers
	// create completes a new object from what the client sent; nil if that will do.
	create func(*exchange, object)
	// later are the fields that change by the time it is read; nil: none. It may
	// also create what belongs to the object.
	later func(*exchange, object) object
	// stream answers the creation if the client asked for events; nil: never.
	stream func(*exchange, object)
}

// add registers the five operations below base, which has a slash at the end.
func (c *collection) add(t routes, base, action string, version versioning) {
	all := base + c.path
	one := all + "/{" + c.object[strings.LastIndex(c.object, ".")+1:] + "_id}"
	t.add("POST", all, action+"/write", version, c.make)
	t.add("GET", all, action+"/read", version, listObjects)
	t.add("GET", one, action+"/read", version, readObject)
	t.add("POST", one, action+"/write", version, changeObject)
	t.add("DELETE", one, action+"/delete", version, c.remove)
}

// collectionName is where the objects of a path are stored. The classic and the
// v1 path of one collection share it.
func collectionName(path string) string {
	for _, base := range []string{"/openai/v1/", "/openai/"} {
		if name, ok := strings.CutPrefix(path, base); ok {
			return name
		}
	}
	return strings.TrimPrefix(path, "/")
}

// item is the collection and the identifier that the path ends in.
func (x *exchange) item() (collection, id string) {
	collection, id = path.Split(collectionName(x.r.URL.Path))
	return strings.TrimSuffix(collection, "/"), id
}

// findParent answers if the path's collection belongs to an object that does
// not exist: the messages of no thread.
func (x *exchange) findParent() bool {
	segments := x.op.segments
	above := segments[len(segments)-2]
	if !strings.HasPrefix(above, "{") || above == "{projectName}" {
		return true
	}
	_, _, ok := x.findAbove()
	return ok
}

func (x *exchange) missing(id string) {
	x.fail(http.StatusNotFound, "invalid_request_error", fmt.Sprintf("No object found with id '%s'.", id))
}

func (c *collection) make(x *exchange) {
	sent, ok := x.fields()
	if !ok || !x.findParent() {
		return
	}
	o := with(sent, object{"id": newID(c.prefix), "object": c.object, "created_at": time.Now().Unix()})
	if c.create != nil {
		c.create(x, o)
	}
	stored := o
	if c.later != nil {
		stored = with(o, c.later(x, o))
	}
	x.emulator.objects.put(collectionName(x.r.URL.Path), stored)
	if c.stream != nil && sent["stream"] == true {
		c.stream(x, stored)
		return
	}
	x.json(http.StatusOK, o)
}

// fields reads a JSON object, no body at all, or a form, whose files it counts.
func (x *exchange) fields() (object, bool) {
	o := object{}
	if strings.HasPrefix(x.r.Header.Get("Content-Type"), "multipart/") {
		f, ok := x.form(io.Discard)
		for name, value := range f.fields {
			o[name] = value
		}
		if len(f.files) > 0 {
			o["filename"], o["bytes"] = f.files[0].name, f.size()
		}
		return o, ok
	}
	if x.r.ContentLength == 0 {
		return o, true
	}
	var sent json.RawMessage
	if !x.decode(&sent) {
		return nil, false
	}
	_ = json.Unmarshal(sent, &o) // an array or a number has no fields
	return orEmpty(o), true
}

func orEmpty(o object) object {
	if o == nil {
		return object{}
	}
	return o
}

func listObjects(x *exchange) {
	if !x.findParent() {
		return
	}
	data := x.emulator.objects.list(collectionName(x.r.URL.Path))
	if x.r.URL.Query().Get("order") != "asc" {
		slices.Reverse(data)
	}
	x.json(http.StatusOK, page(data))
}

// page wraps all of data; the emulator never needs a second page.
func page(data []object) object {
	if len(data) == 0 {
		return object{"object": "list", "data": []object{}, "has_more": false, "first_id": nil, "last_id": nil}
	}
	return object{
		"object": "list", "data": data, "has_more": false,
		"first_id": data[0]["id"], "last_id": data[len(data)-1]["id"],
	}
}

func readObject(x *exchange) {
	if o, ok := x.find(); ok {
		x.json(http.StatusOK, o)
	}
}

// find gets the object that the path ends in, or answers.
func (x *exchange) find() (object, bool) {
	collection, id := x.item()
	o, ok := x.emulator.objects.get(collection, id)
	if !ok {
		x.missing(id)
	}
	return o, ok
}

// findAbove gets the object before the last segment of the path: the batch of
// batches/{batch_id}/cancel.
func (x *exchange) findAbove() (collection string, o object, ok bool) {
	above, _ := x.item()
	collection, id := path.Split(above)
	collection = strings.TrimSuffix(collection, "/")
	if o, ok = x.emulator.objects.get(collection, id); !ok {
		x.missing(id)
	}
	return collection, o, ok
}

func changeObject(x *exchange) {
	change, ok := x.fields()
	if !ok {
		return
	}
	o, ok := x.find()
	if !ok {
		return
	}
	o = with(with(o, change), object{"id": o["id"]})
	collection, _ := x.item()
	x.emulator.objects.put(collection, o)
	x.json(http.StatusOK, o)
}

func (c *collection) remove(x *exchange) {
	collection, id := x.item()
	if !x.emulator.objects.remove(collection, id) {
		x.missing(id)
		return
	}
	x.json(http.StatusOK, object{"id": id, "object": c.object + ".deleted", "deleted": true})
}

// cancel ends what the path before /cancel names.
func cancel(x *exchange) {
	x.drain()
	collection, o, ok := x.findAbove()
	if !ok {
		return
	}
	o = with(o, object{"status": "cancelled", "cancelled_at": time.Now().Unix()})
	x.emulator.objects.put(collection, o)
	x.json(http.StatusOK, o)
}

// nothing lists what the emulator never has any of, such as a job's events.
func nothing(x *exchange) { x.json(http.StatusOK, page(nil)) }
