package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func workflows(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	return files
}

// actionlint is run and not linked: its YAML library is a version of its own.
func TestTheWorkflowsHaveNoLint(t *testing.T) {
	args := []string{"run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", "-shellcheck=", "-pyflakes="}
	if _, err := try(t, nil, "go", append(args, workflows(t)...)...); err != nil {
		t.Error(err)
	}
}

// A tag can be moved to other code, a digest cannot. The comment is what people
// and dependabot read.
func TestEveryActionIsPinnedByDigest(t *testing.T) {
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: *(.*)$`)
	pinned := regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}   # v\d+\.\d+\.\d+$`)
	digests := map[string]string{}
	for _, file := range workflows(t) {
		for _, m := range uses.FindAllStringSubmatch(string(read(t, file)), -1) {
			if strings.HasPrefix(m[1], "./") {
				continue
			}
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s", filepath.Base(file), m[1])
				continue
			}
			action, digest, _ := strings.Cut(m[1], "@")
			if other, ok := digests[action]; ok && other != digest {
				t.Errorf("%s is used as %s and as %s", action, digest, other)
			}
			digests[action] = digest
		}
	}
}

type workflow struct {
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Uses    string `json:"uses"`
		Timeout int    `json:"timeout-minutes"`
		Steps   []struct {
			Run string `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

func TestTheWorkflowsMayDoNoMoreThanTheyMust(t *testing.T) {
	for _, file := range workflows(t) {
		var w workflow
		if err := yaml.Unmarshal(read(t, file), &w); err != nil {
			t.Fatal(err)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s: without more, a job may do %v", file, w.Permissions)
		}
		for name, job := range w.Jobs {
			if job.Uses == "" && job.Timeout == 0 {
				t.Errorf("%s: the job %s may hang for six hours", file, name)
			}
			for _, step := range job.Steps {
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: the job %s puts an expression into a script, where it could be code: %s", file, name, step.Run)
				}
			}
		}
	}
}

func TestDependabotWatchesWhatExists(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal(read(t, root+"/.github/dependabot.yml"), &config); err != nil {
		t.Fatal(err)
	}
	manifest := map[string]string{"gomod": "go.mod", "github-actions": ".github/workflows", "docker": "Dockerfile", "pip": "requirements.txt"}
	for _, u := range config.Updates {
		for _, dir := range slices.DeleteFunc(append(u.Directories, u.Directory), func(d string) bool { return d == "" }) {
			if _, err := os.Stat(filepath.Join(root, dir, manifest[u.Ecosystem])); err != nil {
				t.Errorf("%s: %v", u.Ecosystem, err)
			}
		}
	}
}

// The chart, the binaries and the images of a release carry one version, and
// its notes come from the changelog.
func TestTheChangelogKnowsTheChartsVersion(t *testing.T) {
	var meta struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(read(t, chart+"/Chart.yaml"), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Version != meta.AppVersion {
		t.Errorf("the chart has the version %s, and installs %s", meta.Version, meta.AppVersion)
	}
	if changelog := string(read(t, root+"/CHANGELOG.md")); !strings.Contains(changelog, "\n## "+meta.Version) {
		t.Errorf("CHANGELOG.md says nothing about %s", meta.Version)
	}
}
