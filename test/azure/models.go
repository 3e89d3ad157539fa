package azure

import (
	"net/http"
	"slices"
)

// models lists what could be deployed, which is what Azure lists too.
func models(x *exchange) {
	data := []object{}
	for _, name := range DefaultDeployments() {
		data = append(data, modelOf(name))
	}
	x.json(http.StatusOK, object{"object": "list", "data": data})
}

func model(x *exchange) {
	if !slices.Contains(DefaultDeployments(), x.values[0]) {
		x.give(refuse(http.StatusNotFound, bodyNotFound))
		return
	}
	x.json(http.StatusOK, modelOf(x.values[0]))
}

func modelOf(name string) object {
	const created = 1715367049
	return object{
		"id": name, "object": "model", "created_at": created, "status": "succeeded", "lifecycle_status": "generally-available",
		"capabilities": object{"inference": true, "chat_completion": true, "completion": true, "embeddings": true, "fine_tune": false},
	}
}

// deployments lists the names that this resource answers to, as the oldest
// api-versions did.
func deployments(x *exchange) {
	data := []object{}
	for _, name := range x.deployments() {
		data = append(data, object{"id": name, "object": "deployment", "model": name, "owner": "organization-owner", "status": "succeeded"})
	}
	x.json(http.StatusOK, object{"object": "list", "data": data})
}

func (x *exchange) deployments() []string {
	if x.resource.Deployments == nil {
		return DefaultDeployments()
	}
	return x.resource.Deployments
}
