package deploy

import (
	"regexp"
	"strings"
	"testing"
)

const azureDir = root + "/deploy/azure"

// roles are Azure's built-in ones, by name, with the ids that are the same in every tenant.
var roles = map[string]string{
	"Cognitive Services OpenAI User":        "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
	"Cognitive Services OpenAI Contributor": "a001fd3d-188f-4b5d-821b-7da978bf7442",
	"Cognitive Services User":               "a97b65f3-24c7-4388-baec-2e87135dc908",
	"Azure AI User":                         "53ca6127-db72-4b80-b1b0-d745d6d5456d",
}

// There is no Bicep compiler among the packages that these tests may use, so
// they compare what could go wrong unnoticed: ids and names.
func TestTheRolesHaveTheirIDsInBicepAndDocumentation(t *testing.T) {
	bicep, readme := string(read(t, azureDir+"/main.bicep")), string(read(t, azureDir+"/README.md"))
	pairs := regexp.MustCompile(`(?m)^  '([^']+)': '([0-9a-f-]{36})'$`).FindAllStringSubmatch(bicep, -1)
	if len(pairs) != len(roles) {
		t.Errorf("the Bicep file has %d roles, not %d", len(pairs), len(roles))
	}
	for _, pair := range pairs {
		if roles[pair[1]] != pair[2] {
			t.Errorf("%s is not %s", pair[1], pair[2])
		}
	}
	for name, id := range roles {
		if !strings.Contains(readme, "| "+name+" | `"+id+"` |") {
			t.Errorf("README.md lacks %s with its id", name)
		}
		if strings.Count(bicep, "'"+name+"'") < 2 {
			t.Errorf("the Bicep file does not allow %s", name)
		}
	}
}

func TestTheBicepFileNestsAndDeclaresWhatItUses(t *testing.T) {
	bicep := string(read(t, azureDir+"/main.bicep"))
	for open, closing := range map[string]string{"{": "}", "[": "]", "(": ")"} {
		if strings.Count(bicep, open) != strings.Count(bicep, closing) {
			t.Errorf("%s and %s do not match", open, closing)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:param|var) (\w+)`).FindAllStringSubmatch(bicep, -1) {
		if len(regexp.MustCompile(`\b`+m[1]+`\b`).FindAllString(bicep, -1)) < 2 {
			t.Errorf("%s is declared and not used", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(\w+)=\S`).FindAllStringSubmatch(parametersOf(t), -1) {
		if !strings.Contains(bicep, "\nparam "+m[1]+" ") {
			t.Errorf("README.md sets the parameter %s, which does not exist", m[1])
		}
	}
}

// parametersOf is what README.md passes to the deployment.
func parametersOf(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)--parameters \\\n(.*?)--query properties`).FindStringSubmatch(string(read(t, azureDir+"/README.md")))
	if m == nil {
		t.Fatal("README.md has no deployment with parameters")
	}
	return regexp.MustCompile(`(?m)"\$\(.*\)"`).ReplaceAllString(m[1], "x")
}
