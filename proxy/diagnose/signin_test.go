package diagnose

import (
	"strings"
	"testing"
)

const trace = "\r\nTrace ID: 03da4b8e-5ffe-48ca-9754-aff4276f0100\r\nCorrelation ID: 7b12f9bb-2eef-42e3-ad75-eee69ec9088d\r\nTimestamp: 2026-03-04 12:00:00Z"

// signInTexts are Entra's descriptions, with what the remedy must take from them.
var signInTexts = []struct{ code, text, want string }{
	{"70021", "No matching federated identity record found for presented assertion. Assertion Issuer: 'https://oidc.example.com/a/'. Assertion Subject: 'system:serviceaccount:llm:litellm'. Assertion Audience: 'api://AzureADTokenExchange'.",
		"--issuer https://oidc.example.com/a/ --subject system:serviceaccount:llm:litellm --audiences api://AzureADTokenExchange"},
	{"700211", "No matching federated identity record found for presented assertion issuer 'https://oidc.example.com/a/'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.",
		"--issuer https://oidc.example.com/a/ --subject SUBJECT "},
	{"700213", "No matching federated identity record found for presented assertion subject 'system:serviceaccount:llm:litellm'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.",
		"--issuer ISSUER --subject system:serviceaccount:llm:litellm "},
	{"7002121", "No matching federated identity record found for presented assertion audience 'https://kubernetes.default.svc'.", "--audiences api://AzureADTokenExchange"},
	{"700024", "Client assertion is not within its valid time range. Current time: 2026-03-04T12:00:00.0000000Z, assertion valid from 2026-03-04T10:00:00.0000000Z, expiry time of assertion 2026-03-04T11:00:00.0000000Z.", "$AZURE_FEDERATED_TOKEN_FILE"},
	{"700016", "Application with identifier '" + client + "' was not found in the directory 'contoso.example.com'.", "az ad sp show --id " + client + " "},
	{"7000215", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '" + client + "'.", "az ad app credential reset --id " + client + " "},
	{"7000222", "The provided client secret keys for app '" + client + "' are expired.", "az ad app credential reset --id " + client + " "},
	{"90002", "Tenant '" + tid + "' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", "AZURE_AUTHORITY_HOST"},
	{"500011", "The resource principal named https://cognitiveservices.azure.example was not found in the tenant named Contoso.", "ENTRA_SIDECAR_SCOPE=https://cognitiveservices.azure.com/.default"},
	{"50001", "The application named https://cognitiveservices.azure.example was not found in the tenant.", "ENTRA_SIDECAR_SCOPE=https://cognitiveservices.azure.com/.default"},
	{"53003", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.", "Conditional Access"},
	{"50173", "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.", "az login --tenant "},
}

func TestEveryCodeHasItsCauseAndRemedy(t *testing.T) {
	for _, tt := range signInTexts {
		t.Run(tt.code, func(t *testing.T) {
			d, ok := AADSTS("POST https://login.microsoftonline.com/" + tid + "/oauth2/v2.0/token\nAADSTS" + tt.code + ": " + tt.text + trace)
			if !ok || d.Cause != "aadsts-"+tt.code || d.Class != ClassToken || !d.Auth {
				t.Errorf("%v %+v", ok, d)
			}
			if !strings.Contains(d.Remedy, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, d.Remedy)
			}
		})
	}
	if len(signInTexts) != len(signIns)-1 {
		t.Errorf("%d texts for %d codes", len(signInTexts), len(signIns)-1)
	}
}

func TestAnUnknownCodeIsEvidenceEnough(t *testing.T) {
	d, ok := AADSTS("AADSTS50126: Error validating credentials due to invalid username or password." + trace)
	if !ok || d.Cause != "aadsts-50126" || !strings.Contains(d.Sentence, "AADSTS50126;") || !strings.Contains(d.Remedy, "code=50126") {
		t.Errorf("%v %+v", ok, d)
	}
}

func TestACodeIsNotTakenForItsBeginning(t *testing.T) {
	for text, cause := range map[string]string{
		"AADSTS700213: subject":           "aadsts-700213",
		"AADSTS7002138: subject, by case": "aadsts-7002138",
		"AADSTS7002121: audience":         "aadsts-7002121",
		"AADSTS70021: no match":           "aadsts-70021",
		"(AADSTS50173) and AADSTS700016":  "aadsts-50173",
	} {
		if d, _ := AADSTS(text); d.Cause != cause {
			t.Errorf("%q: cause %q, want %q", text, d.Cause, cause)
		}
	}
}

func TestTextsWithoutACodeAreNoSignIn(t *testing.T) {
	for _, text := range []string{"", "AADSTS", "AADSTS12", "AADSTS-70021", "aadsts70021", "AADSTSxyz", "AADSTS70021700217002170021", "700213"} {
		if d, ok := AADSTS(text); ok || d != (Diagnosis{}) {
			t.Errorf("%q: %+v", text, d)
		}
	}
}

func TestTheConfigurationFillsInWhatEntraDoesNotSay(t *testing.T) {
	const silent = "AADSTS50173: The provided grant has expired due to it being revoked."
	if d := Credential(silent, Claims{TenantID: tid}); !strings.Contains(d.Remedy, "az login --tenant "+tid) {
		t.Errorf("remedy\n%s", d.Remedy)
	}
	d := Credential("AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:a:b'.", Claims{AppID: client})
	if !strings.Contains(d.Remedy, "[?clientId=='"+client+"']") {
		t.Errorf("remedy\n%s", d.Remedy)
	}
	other := "99999999-9999-4999-8999-999999999999"
	if d := Credential("AADSTS7000222: The provided client secret keys for app '"+client+"' are expired.", Claims{AppID: other}); !strings.Contains(d.Remedy, client) {
		t.Errorf("Entra's own word does not count first:\n%s", d.Remedy)
	}
}
