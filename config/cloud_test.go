package config

import (
	"net/url"
	"testing"
)

func TestTheScopeFollowsFromTheUpstream(t *testing.T) {
	const public = "https://cognitiveservices.azure.com/.default"
	tests := map[string]string{
		"https://my.openai.azure.com":                       public,
		"https://my.cognitiveservices.azure.com":            public,
		"https://my.services.ai.azure.com":                  public,
		"https://my.services.ai.azure.com/api/projects/one": "https://ai.azure.com/.default",
		"https://apim.example/api/projects/one":             public,
		"https://my.openai.azure.us":                        "https://cognitiveservices.azure.us/.default",
		"https://my.openai.azure.cn":                        "https://cognitiveservices.azure.cn/.default",
		"https://MY.OpenAI.Azure.US":                        "https://cognitiveservices.azure.us/.default",
		"https://my-apim.azure-api.net/base":                public,
		"http://127.0.0.1:8080":                             public,
		"https://openai.azure.us.example":                   public,
	}
	for upstream, want := range tests {
		u, err := url.Parse(upstream)
		if err != nil {
			t.Fatal(err)
		}
		if got := DefaultScope(u); got != want {
			t.Errorf("for %s it is %s", upstream, got)
		}
	}
}

func TestTheAuthorityFollowsFromTheUpstream(t *testing.T) {
	tests := []struct {
		name string
		given
		want string
	}{
		{"public", at("https://my.openai.azure.com"), ""},
		{"Government", at("https://my.openai.azure.us"), "government"},
		{"China", at("https://my.openai.azure.cn"), "china"},
		{"unknown", at("https://apim.example"), ""},
		{"Government beside a front", given{file: "routes: [{upstream: https://apim.example}, {upstream: https://a.openai.azure.us, prefix: /b}]"}, "government"},
		{"written out", given{flags: map[string]string{"upstream": "https://my.openai.azure.us"}, file: "identities: {default: {authority: public}}"}, "public"},
		{"by azidentity's own variable", given{flags: map[string]string{"upstream": "https://my.openai.azure.us"}, env: map[string]string{"AZURE_AUTHORITY_HOST": "https://login.example"}}, ""},
		{"not for a credential that takes none", given{flags: map[string]string{"upstream": "https://my.openai.azure.us"}, file: "identities: {default: {credential: azure-cli}}"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.load(t).Identities["default"].Authority; got != tt.want {
				t.Errorf("it is %q", got)
			}
		})
	}
}
