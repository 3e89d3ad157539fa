package diagnose

import (
	"regexp"
	"strings"
)

// federate is what makes Entra believe a token of the cluster.
const federate = "az identity list --query \"[?clientId=='{{CLIENT}}'].[name,resourceGroup]\" --output tsv\n" +
	"az aks show --name CLUSTER --resource-group GROUP --query oidcIssuerProfile.issuerUrl --output tsv\n" +
	"az identity federated-credential create --name entra-sidecar --identity-name IDENTITY --resource-group GROUP --issuer {{ISSUER}} --subject {{SUBJECT}} --audiences api://AzureADTokenExchange\n" +
	"# SUBJECT is system:serviceaccount:NAMESPACE:SERVICEACCOUNT, letter for letter; it takes effect after 1 to 5 minutes"

const showTenant = "az account show --query tenantId --output tsv\n"

// signIns are the refusals of Entra, by their number.
var signIns = []Row{{
	Kind:     KindSignIn,
	Cause:    "aadsts-70021",
	Code:     "AADSTS70021",
	Sentence: "Entra knows no federated credential that fits the pod's token; create one with its issuer and subject, and wait up to five minutes.",
	Remedy:   federate,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-700211",
	Code:     "AADSTS700211",
	Sentence: "Entra knows no federated credential with the issuer of the pod's token; create one with the cluster's issuer URL, and wait up to five minutes.",
	Remedy:   federate,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-700213",
	Code:     "AADSTS700213",
	Sentence: "Entra knows no federated credential with the subject of the pod's token; create one for its namespace and service account, and wait up to five minutes.",
	Remedy:   federate,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-7002121",
	Code:     "AADSTS7002121",
	Sentence: "The federated credential and the pod's token disagree about the audience; both must say api://AzureADTokenExchange.",
	Remedy: "az identity list --query \"[?clientId=='{{CLIENT}}'].[name,resourceGroup]\" --output tsv\n" +
		"az identity federated-credential list --identity-name IDENTITY --resource-group GROUP --query \"[].[name,issuer,subject]\" --output tsv\n" +
		"az identity federated-credential update --name CREDENTIAL --identity-name IDENTITY --resource-group GROUP --issuer ISSUER --subject SUBJECT --audiences api://AzureADTokenExchange",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-700024",
	Code:     "AADSTS700024",
	Sentence: "The assertion was outside its lifetime; set the clock of this machine right, or find out why the token file is not renewed.",
	Remedy: "date -u\n" +
		"ls -l --dereference \"$AZURE_FEDERATED_TOKEN_FILE\"   # kubelet renews it within the hour; a subPath mount keeps the old one",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-700016",
	Code:     "AADSTS700016",
	Sentence: "The tenant knows no application with this client id; set the client id and the tenant id to a pair that belongs together.",
	Remedy: "az ad sp show --id {{CLIENT}} --query appId --output tsv   # is it known in this tenant?\n" +
		showTenant +
		"# AZURE_CLIENT_ID and AZURE_TENANT_ID, or client_id and tenant_id of the identity; client: {{CLIENT}}, tenant: {{TENANT}}",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-7000215",
	Code:     "AADSTS7000215",
	Sentence: "The client secret is wrong, often because it is the secret's id instead of its value; set the value, or create a new secret.",
	Remedy:   newSecret,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-7000222",
	Code:     "AADSTS7000222",
	Sentence: "The client secret has expired; create a new one, or change to a workload or managed identity, which has none.",
	Remedy:   newSecret,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-90002",
	Code:     "AADSTS90002",
	Sentence: "Entra knows no such tenant in this cloud; set the tenant id right, or the authority of the right cloud.",
	Remedy: showTenant +
		"az cloud show --query endpoints.activeDirectory --output tsv\n" +
		"# AZURE_TENANT_ID and AZURE_AUTHORITY_HOST, or tenant_id and authority of the identity",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-500011",
	Code:     "AADSTS500011",
	Sentence: "The tenant knows no resource of the scope's name; set the scope of the route right, or the authority of the right cloud.",
	Remedy:   rightScope,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-50001",
	Code:     "AADSTS50001",
	Sentence: "Entra knows no resource of the scope's name; set the scope of the route right, or the authority of the right cloud.",
	Remedy:   rightScope,
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-53003",
	Code:     "AADSTS53003",
	Sentence: "A Conditional Access policy blocks this sign-in; have the tenant's administrator admit this identity from this network.",
	Remedy: "# The sign-in log names the policy: Entra admin center, Sign-in logs, the entry's Conditional Access tab.\n" +
		"# client: {{CLIENT}}, tenant: {{TENANT}}",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-50173",
	Code:     "AADSTS50173",
	Sentence: "The session was revoked, as it is by a new password; log in again.",
	Remedy: "az login --tenant {{TENANT}}\n" +
		"azd auth login --tenant-id {{TENANT}}   # for the Azure Developer CLI",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindSignIn,
	Cause:    "aadsts-" + anyNumber,
	Sentence: "Entra refused the sign-in with AADSTS" + anyNumber + "; see the reason that it gave in the log.",
	Remedy: "# Entra's own words are in the log, and explained at:\n" +
		"# https://login.microsoftonline.com/error?code=" + anyNumber,
	Auth:  true,
	Class: ClassToken,
}}

const newSecret = "az ad app credential reset --id {{CLIENT}} --append --display-name entra-sidecar\n" +
	"# AZURE_CLIENT_SECRET, or client_secret of the identity, takes the \"password\" that this prints"

const rightScope = "ENTRA_SIDECAR_SCOPE=https://cognitiveservices.azure.com/.default   # or https://ai.azure.com/.default\n" +
	"# Azure Government: https://cognitiveservices.azure.us/.default and AZURE_AUTHORITY_HOST=https://login.microsoftonline.us/\n" +
	"# Azure in China: https://cognitiveservices.azure.cn/.default and AZURE_AUTHORITY_HOST=https://login.chinacloudapi.cn/"

// anyNumber stands for the number in the last row, which takes every code that
// has none of its own: the code is evidence enough to look it up.
const anyNumber = "NNNN"

var aadstsPattern = regexp.MustCompile(`AADSTS([0-9]{4,8})\b`)

// AADSTS tells the cause of the first of Entra's codes in the text. It reports
// false only if there is none.
func AADSTS(text string) (Diagnosis, bool) { return signIn(text, Claims{}) }

func signIn(text string, who Claims) (Diagnosis, bool) {
	m := aadstsPattern.FindStringSubmatch(text)
	if m == nil {
		return Diagnosis{}, false
	}
	d, ok := find(signIns, &evidence{in: Input{Claims: who}, code: m[0], message: text})
	for _, s := range []*string{&d.Cause, &d.Sentence, &d.Remedy} {
		*s = strings.ReplaceAll(*s, anyNumber, m[1])
	}
	return d, ok
}
