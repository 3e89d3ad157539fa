package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Problem is one reason why a configuration is refused. Its text shows no
// secret, and says what to write instead.
type Problem struct {
	Setting string
	Origin  string // a flag, an environment variable, file:line:column; empty for a default
	Text    string
}

func (p *Problem) Error() string {
	if p.Origin == "" {
		return p.Setting + ": " + p.Text
	}
	return p.Setting + " (" + p.Origin + "): " + p.Text
}

// Problems is the error of [Load]: everything that is wrong, one a line.
type Problems []*Problem

func (p Problems) Error() string {
	var b strings.Builder
	if len(p) == 1 {
		b.WriteString("a problem in the configuration:")
	} else {
		fmt.Fprintf(&b, "%d problems in the configuration:", len(p))
	}
	for _, problem := range p {
		b.WriteString("\n  " + problem.Error())
	}
	return b.String()
}

// harmless values can be shown. Anything longer or richer may be a secret that
// strayed into the wrong setting, by a slip of the indentation for example.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:\[\]-]{1,64}$`)

// show quotes a value for the beginning of a problem's text.
func show(text string) string {
	if harmless.MatchString(text) {
		return strconv.Quote(text)
	}
	return "the value"
}

// didYouMean returns a remark on what was probably meant, or else what there is.
func didYouMean(text string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	distance := func(a, b string) int { return cmp.Compare(editDistance(text, a), editDistance(text, b)) }
	if nearest := slices.MinFunc(known, distance); editDistance(text, nearest) <= 1+len(nearest)/4 {
		return "; did you mean " + nearest + "?"
	}
	return "; write one of " + strings.Join(known, ", ")
}

// editDistance counts the insertions, deletions and changes (Levenshtein)
// between two names, which it takes for equal if only case, "-" and "_" differ.
func editDistance(a, b string) int {
	fold := strings.NewReplacer("-", "", "_", "")
	a, b = strings.ToLower(fold.Replace(a)), strings.ToLower(fold.Replace(b))
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
