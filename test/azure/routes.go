package azure

import (
	"net/url"
	"strings"
)

// operation is one thing that the Azure side can do.
type operation struct {
	method   string
	template string // of the path, as refusals quote it: /openai/deployments/{deployment-id}/…
	action   string // data action below Microsoft.CognitiveServices/accounts/
	version  versioning
	handle   func(*exchange)
	// ephemeral operations also take the bearer that client_secrets gives out.
	ephemeral bool

	segments []string // of template
}

// versioning is what an operation demands of the query's api-version.
type versioning int

const (
	versionless versioning = iota // whatever it says
	dated                         // must be there: the classic paths
	v1                            // must not be dated: /openai/v1
	named                         // must be there, dated or not: Foundry projects
)

// routes finds operations by path. It looks at the raw path and never cleans
// or redirects: Azure answers 404 to a doubled slash, and so must we, which is
// why this is no http.ServeMux.
type routes map[int][]*operation // by number of segments

// add returns the new operation. Where two match a path, the first added wins.
func (t routes) add(method, template, action string, version versioning, handle func(*exchange)) *operation {
	op := &operation{
		method: method, template: template, action: action, version: version, handle: handle,
		segments: strings.Split(template, "/"),
	}
	t[len(op.segments)] = append(t[len(op.segments)], op)
	return op
}

// find returns the operation for method and the raw path, with the unescaped
// values of the template's variables in order, or nil.
func (t routes) find(method, path string) (*operation, []string) {
	segments := strings.Split(path, "/")
	for _, op := range t[len(segments)] {
		if op.method != method {
			continue
		}
		if values, ok := op.match(segments); ok {
			return op, values
		}
	}
	return nil, nil
}

func (op *operation) match(segments []string) (values []string, ok bool) {
	for i, want := range op.segments {
		variable, suffix, found := strings.Cut(want, "}")
		if !found || !strings.HasPrefix(variable, "{") {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		value, matched := strings.CutSuffix(segments[i], suffix)
		value, err := url.PathUnescape(value)
		if !matched || value == "" || err != nil {
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}
