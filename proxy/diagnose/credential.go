package diagnose

import "strings"

const imds = "169.254.169.254"

// unavailable is the cause of every failure to get a token for which Entra is
// not to blame.
const unavailable = "credential-unavailable"

// credentials are the ways in which a credential fails before Entra is asked,
// in the words of azidentity and in those that the log and the check command
// make of them. A chain that ran through to its end comes first, since its text
// holds the words of all its sources.
var credentials = []Row{{
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "no-source",
	Phrases:  []string{"Attempted credentials:", "; AzurePowerShellCredential: "},
	when:     func(e *evidence) bool { return e.says("AzurePowerShellCredential") },
	Sentence: "No source of credentials is set up here; give the pod a workload identity or the machine a managed identity, or log in with az.",
	Remedy:   "entra-sidecar check   # says of each source why it was passed over",
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "azure-token-credentials-invalid",
	Phrases:  []string{"invalid AZURE_TOKEN_CREDENTIALS value"},
	Sentence: "AZURE_TOKEN_CREDENTIALS is set but empty, or names no credential; unset it, or give it a valid value.",
	Remedy: "unset AZURE_TOKEN_CREDENTIALS   # or dev, prod, WorkloadIdentityCredential, ManagedIdentityCredential, …\n" +
		"# A Helm value left empty sets the variable to nothing: leave the whole entry out.",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "azure-client-id-empty",
	Phrases:  []string{"empty managedidentity.UserAssignedClientID", "AZURE_CLIENT_ID is set but empty"},
	Sentence: "AZURE_CLIENT_ID is set but empty; unset it for a system-assigned identity, or give it the client id.",
	Remedy: "unset AZURE_CLIENT_ID\n" +
		"# A Helm value left empty sets the variable to nothing: leave the whole entry out.",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "identity-not-assigned",
	Phrases:  []string{"isn't assigned to this resource", "Identity not found", "this machine has no such managed identity", "No User Assigned or Delegated Managed Identity found"},
	Sentence: "This machine does not have the managed identity that was asked for; assign it to the machine, or correct the client id.",
	Remedy: "az identity list --query \"[?clientId=='{{CLIENT}}'].id\" --output tsv   # the id of the identity; client: AZURE_CLIENT_ID\n" +
		"az vmss identity assign --name SCALESET --resource-group GROUP --identities IDENTITY_ID   # az vm, az webapp, az containerapp likewise",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "identity-ambiguous",
	Phrases:  []string{"Multiple user assigned identities exist"},
	Sentence: "This machine has several managed identities; say which one by its client id.",
	Remedy: "az identity list --query \"[].[name,clientId]\" --output tsv\n" +
		"AZURE_CLIENT_ID=CLIENT   # or client_id of the identity",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "proxy-captures-imds",
	Phrases:  []string{"proxyconnect tcp", "invalid character '<'", "captures the managed identity endpoint"},
	when:     func(e *evidence) bool { return e.says(imds, "ManagedIdentityCredential") },
	Sentence: "A proxy variable captures the requests to the managed identity's address; exempt " + imds + " in NO_PROXY.",
	Remedy:   "export NO_PROXY=\"$NO_PROXY,localhost,127.0.0.1," + imds + "\"",
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "imds-unreachable",
	Phrases:  []string{"managed identity timed out", "dial tcp " + imds, "no answer from " + imds, "no answer from the managed identity endpoint"},
	Sentence: "No managed identity endpoint answers here; this is no Azure machine, or a network policy keeps the pod from it.",
	Remedy: "curl --noproxy '*' --max-time 2 --header Metadata:true 'http://" + imds + "/metadata/instance?api-version=2021-02-01'\n" +
		"# In AKS prefer workload identity, which does without it; elsewhere allow egress to " + imds + " port 80.",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "workload-identity-not-injected",
	Phrases:  []string{"no token file specified", "no client ID specified", "no tenant ID specified", "no workload identity webhook changed this pod", "the workload identity webhook would set"},
	Sentence: "The workload identity webhook has not prepared this pod; label the pod, annotate its service account, and create the pod anew.",
	Remedy: "# The pod template needs the label azure.workload.identity/use: \"true\" and this service account:\n" +
		"kubectl annotate serviceaccount SERVICEACCOUNT azure.workload.identity/client-id={{CLIENT}} --overwrite\n" +
		"az aks update --name CLUSTER --resource-group GROUP --enable-oidc-issuer --enable-workload-identity\n" +
		"kubectl rollout restart deployment DEPLOYMENT   # the webhook sees new pods only",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "federated-token-file-missing",
	Phrases:  []string{"no such file or directory", "permission denied"},
	when:     func(e *evidence) bool { return e.says("WorkloadIdentityCredential", "azure-identity-token") },
	Sentence: "The federated token file cannot be read; let the workload identity webhook mount it into this container, readable for its user.",
	Remedy: "ls -l --dereference \"$AZURE_FEDERATED_TOKEN_FILE\"\n" +
		"# The pod template needs the label azure.workload.identity/use: \"true\", and no azure.workload.identity/skip-containers\n" +
		"# annotation that names this container; a container that runs as another user needs securityContext.fsGroup.",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "no-shell",
	Phrases:  []string{"fork/exec /bin/sh", "chdir /bin", "there is no shell in this image"},
	Sentence: "This image has no shell, so that no command-line login can be used; use a workload or managed identity here.",
	Remedy:   "# az and azd serve the binary on a laptop; in a container set credential: workload-identity or managed-identity.",
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "cli-not-found",
	Phrases:  []string{"executable not found on path", "is not installed"},
	Sentence: "The command-line tool of this credential is not installed or not on the PATH; install it, or use another credential.",
	Remedy:   "command -v az azd   # https://aka.ms/install-azure-cli, https://aka.ms/azd-install",
	Auth:     true,
	Class:    ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "login-missing",
	Phrases:  []string{"az login", "azd auth login"},
	Sentence: "Nobody is logged in to the command-line tool; log in, as the user that runs this program.",
	Remedy: "az login --tenant {{TENANT}}\n" +
		"azd auth login --tenant-id {{TENANT}}   # for the Azure Developer CLI",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "environment-incomplete",
	Phrases:  []string{"missing environment variable AZURE_", "incomplete environment variable configuration", "no value for AZURE_PASSWORD", "EnvironmentCredential: AZURE_", "neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH"},
	Sentence: "The environment names no complete service principal; set tenant, client and a secret or certificate, or use another credential.",
	Remedy: "export AZURE_TENANT_ID={{TENANT}} AZURE_CLIENT_ID={{CLIENT}}\n" +
		"# and AZURE_CLIENT_SECRET, or AZURE_CLIENT_CERTIFICATE_PATH (PEM or PKCS#12 with an RSA key)",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Detail:   "entra-unreachable",
	Phrases:  []string{"Post \"https://", "Get \"https://", ": dial tcp", ": tls: ", "no answer from "},
	when:     func(e *evidence) bool { return e.says("https://", "Credential: ") }, // and not just anything that was dialled
	Sentence: "Entra could not be reached; allow this machine's way to the login host, or set the authority of the right cloud.",
	Remedy: "curl --silent --show-error --output /dev/null https://login.microsoftonline.com/common/discovery/instance\n" +
		"# Allow egress to it on port 443, set HTTPS_PROXY if a proxy leads out, SSL_CERT_FILE if it inspects TLS.",
	Auth:  true,
	Class: ClassToken,
}, {
	Kind:     KindCredential,
	Cause:    unavailable,
	Sentence: "No token could be obtained; the log tells why, source by source.",
	Remedy:   "entra-sidecar check   # says of each source why it was passed over",
	Auth:     true,
	Class:    ClassToken,
}}

// Credential tells why there is no token: by Entra's code if the reason holds
// one, else by azidentity's words. The reason is best that of one source, with
// its name in front ("WorkloadIdentityCredential: open …"). Whatever is known
// of the identity, as the configuration has it, completes the remedy.
func Credential(reason string, who Claims) Diagnosis {
	if d, ok := signIn(reason, who); ok {
		return d
	}
	d, _ := find(credentials, &evidence{in: Input{Claims: who}, message: reason}) // the last row takes all
	return d
}

// Proxies tells which local addresses the proxy variables of an environment
// send away: the managed identity's, which only a proxy outside of Azure could
// fail to reach, and this machine's own, where LiteLLM looks for the sidecar.
func Proxies(getenv func(string) string) []Diagnosis {
	var found []Diagnosis
	web := getenv("HTTP_PROXY") + getenv("http_proxy")
	except := getenv("NO_PROXY") + "," + getenv("no_proxy")
	if web != "" && !exempt(except, imds) {
		found = append(found, byCause(credentials, unavailable, "proxy-captures-imds").diagnosis(&evidence{}))
	}
	if web+getenv("ALL_PROXY")+getenv("all_proxy") != "" && !exempt(except, "127.0.0.1") {
		found = append(found, byCause(network, "proxy-captures-localhost", "").diagnosis(&evidence{}))
	}
	return found
}

// exempt reports whether a NO_PROXY list names the address, or everything.
func exempt(list, address string) bool {
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "*" || entry == address || covers(entry, address) {
			return true
		}
	}
	return false
}
