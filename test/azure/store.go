package azure

import (
	"maps"
	"slices"
	"sync"
)

// store keeps the objects that clients create: files, assistants, responses.
// An object is never changed once it is in the store, only replaced, so that
// it can be encoded without a lock.
type store struct {
	mu          sync.Mutex
	collections map[string][]object // by name, in order of creation
}

// maxObjects bounds each collection; the oldest give way.
const maxObjects = 10_000

// put adds o to the collection, or replaces the object of the same id.
func (s *store) put(collection string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.collections == nil {
		s.collections = map[string][]object{}
	}
	objects := s.collections[collection]
	if i := indexOf(objects, o["id"]); i >= 0 {
		objects = slices.Clone(objects)
		objects[i] = o
	} else {
		objects = append(objects, o)
	}
	s.collections[collection] = objects[max(0, len(objects)-maxObjects):]
}

func (s *store) get(collection, id string) (object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := s.collections[collection]
	if i := indexOf(objects, id); i >= 0 {
		return objects[i], true
	}
	return nil, false
}

// list returns the objects, the oldest first.
func (s *store) list(collection string) []object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.collections[collection])
}

func (s *store) remove(collection, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := s.collections[collection]
	i := indexOf(objects, id)
	if i < 0 {
		return false
	}
	s.collections[collection] = slices.Delete(slices.Clone(objects), i, i+1)
	return true
}

// indexOf searches from the end: what was made last is asked for first.
func indexOf(objects []object, id any) int {
	for i, o := range slices.Backward(objects) {
		if o["id"] == id {
			return i
		}
	}
	return -1
}

// with returns a copy of o that has change's fields as well.
func with(o, change object) object {
	c := maps.Clone(o)
	maps.Copy(c, change)
	return c
}
