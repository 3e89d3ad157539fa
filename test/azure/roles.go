package azure

import "strings"

// grants are the data actions of Azure's built-in roles, below
// Microsoft.CognitiveServices/accounts/. A star stands for any text. Those
// without any are the usual mistakes: they manage the resource and may not use
// it.
var grants = map[string][]string{
	"Cognitive Services OpenAI User": {
		"OpenAI/deployments/*", "OpenAI/images/*", "OpenAI/responses/*", "OpenAI/assistants/*",
		"OpenAI/containers/*", "OpenAI/video/*", "OpenAI/*/read",
	},
	"Cognitive Services OpenAI Contributor": {"OpenAI/*"},
	"Cognitive Services User":               {"OpenAI/*", "MaaS/*", "FormRecognizer/*", "SpeechServices/*"},
	"Owner":                                 nil,
	"Contributor":                           nil,
	"Cognitive Services Contributor":        nil,
	"Azure AI User":                         {"OpenAI/*", "MaaS/*", "AIServices/*", "FormRecognizer/*", "SpeechServices/*"},
}

// everyRole permits every data action that the emulator knows.
var everyRole = []string{"Cognitive Services OpenAI Contributor", "Cognitive Services User", "Azure AI User"}

// permits reports whether the resource's role assignments cover action.
func (r *Resource) permits(action string) bool {
	roles := r.Roles
	if roles == nil {
		roles = everyRole
	}
	for _, role := range roles {
		for _, pattern := range grants[role] {
			if covers(pattern, action) {
				return true
			}
		}
	}
	return false
}

// covers matches a pattern with at most one star.
func covers(pattern, action string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == action
	}
	return len(action) >= len(before)+len(after) && strings.HasPrefix(action, before) && strings.HasSuffix(action, after)
}
