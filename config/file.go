package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// readFile sets what the file says. The syntax tree is walked here, rather than
// decoded by the YAML package, because that stops at the first problem and
// quotes lines of the file, secrets included, in its errors.
func (l *loader) readFile(name string) {
	content, err := os.ReadFile(name)
	if err != nil {
		l.problem("config", "cannot be read: %v", reason(err))
		return
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))                     // YAML allows a byte order mark, its parser does not
	file, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey()) // each duplicate is reported below
	if err != nil {
		l.syntaxProblem(name, err)
		return
	}
	r := fileReader{loader: l, name: name}
	for i, document := range file.Docs {
		switch body := document.Body.(type) {
		case nil, *ast.CommentGroupNode:
		default:
			if i > 0 {
				r.problemAt("config", body, "a second document is not read: remove the line ---")
				continue
			}
			r.mapping("", body, reflect.ValueOf(l.config).Elem())
		}
	}
}

// reason is an error of the file system without the file's name, which the
// problem shows where it matters.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// syntaxProblem leaves out the excerpt, and what the message quotes of it.
func (l *loader) syntaxProblem(name string, err error) {
	text := "no valid YAML"
	if e, ok := errors.AsType[yaml.Error](err); ok {
		message, _, _ := strings.Cut(e.GetMessage(), `"`)
		text += ": " + strings.TrimRight(message, ": ")
		if t := e.GetToken(); t != nil {
			name = position(name, t)
		}
	}
	l.problems = append(l.problems, &Problem{Setting: "config", Origin: name, Text: text})
}

func position(name string, t *token.Token) string {
	return fmt.Sprintf("%s:%d:%d", name, t.Position.Line, t.Position.Column)
}

type fileReader struct {
	*loader
	name string
}

// at returns the position of a node: that of its first key, for a mapping whose
// own token is a colon.
func (r fileReader) at(n ast.Node) string {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	return position(r.name, n.GetToken())
}

func (r fileReader) problemAt(setting string, n ast.Node, format string, args ...any) {
	setting = cmp.Or(setting, "config") // the file as a whole
	r.problems = append(r.problems, &Problem{Setting: setting, Origin: r.at(n), Text: fmt.Sprintf(format, args...)})
}

// value reads a node into v, whose type says what the node may be.
func (r fileReader) value(setting string, n ast.Node, v reflect.Value) {
	r.origins[setting] = r.at(n)
	switch v.Kind() {
	case reflect.Struct:
		r.mapping(setting, n, v)
	case reflect.Map:
		r.entries(setting, n, v)
	case reflect.Slice:
		r.list(setting, n, v)
	default:
		if text, ok := r.scalar(setting, n); ok {
			r.set(setting, r.at(n), text, v)
		}
	}
}

// mapping reads settings into the fields of a struct.
func (r fileReader) mapping(setting string, n ast.Node, v reflect.Value) {
	byKey := make(map[string]reflect.StructField)
	var known []string
	for f := range fields(v.Type()) {
		byKey[f.Tag.Get("key")] = f
		if f.Tag.Get("nofile") == "" {
			known = append(known, f.Tag.Get("key"))
		}
	}
	for key, pair := range r.pairs(setting, n) {
		name := strings.TrimPrefix(setting+"."+key, ".")
		f, ok := byKey[key]
		switch hint := f.Tag.Get("nofile"); {
		case !ok:
			r.problemAt(r.unknown(setting, key), pair.Key, "no such setting%s", didYouMean(key, known))
		case hint != "":
			r.problemAt(name, pair.Key, "has no place in the file: %s", hint)
		default:
			r.value(name, pair.Value, v.FieldByIndex(f.Index))
		}
	}
}

// unknown names a setting that does not exist, unless the name may be a secret.
func (r fileReader) unknown(setting, key string) string {
	if !name.MatchString(key) {
		key = "…"
	}
	return strings.TrimPrefix(setting+"."+key, ".")
}

// name is what keys of identities and headers look like, and all settings.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// entries reads a map with keys of the user's choice.
func (r fileReader) entries(setting string, n ast.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for key, pair := range r.pairs(setting, n) {
		if !name.MatchString(key) {
			r.problemAt(setting, pair.Key, "a name must consist of letters, digits, - and _")
			continue
		}
		element := newElement(v)
		r.value(setting+"."+key, pair.Value, element)
		v.SetMapIndex(reflect.ValueOf(key), element)
	}
}

func (r fileReader) list(setting string, n ast.Node, v reflect.Value) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		r.problemAt(setting, n, "must be a list: begin each entry with a -")
		return
	}
	if len(sequence.Values) == 0 {
		r.problemAt(setting, n, "is empty: remove it, or write an entry")
	}
	for i, n := range sequence.Values {
		element := newElement(v)
		r.value(fmt.Sprintf("%s[%d]", setting, i), n, element)
		v.Set(reflect.Append(v, element))
	}
}

// newElement returns an element for a map or slice, with its defaults.
func newElement(v reflect.Value) reflect.Value {
	element := reflect.New(v.Type().Elem()).Elem()
	if element.Kind() == reflect.Struct {
		setDefaults(element)
	}
	return element
}

// pairs returns the pairs of a mapping in the order of the file, and reports
// what is wrong with its keys.
func (r fileReader) pairs(setting string, n ast.Node) iter.Seq2[string, *ast.MappingValueNode] {
	mapping, ok := n.(*ast.MappingNode)
	if !ok {
		r.problemAt(setting, n, "must be a mapping: write its settings below it, indented, one a line")
		return func(func(string, *ast.MappingValueNode) bool) {}
	}
	return func(yield func(string, *ast.MappingValueNode) bool) {
		seen := make(map[string]ast.Node)
		for _, pair := range mapping.Values {
			key, ok := pair.Key.(*ast.StringNode)
			switch {
			case !ok:
				r.problemAt(setting, pair.Key, "a key must be plain text")
			case seen[key.Value] != nil:
				r.problemAt(r.unknown(setting, key.Value), key, "is set twice, first at line %d: remove one", seen[key.Value].GetToken().Position.Line)
			default:
				seen[key.Value] = key
				if !yield(key.Value, pair) {
					return
				}
			}
		}
	}
}

// scalar returns the text of a single value, with its references expanded. A
// type is not asked for: the setting's own decides how to read it.
func (r fileReader) scalar(setting string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return r.expand(setting, n, n.Value)
	case *ast.LiteralNode:
		return r.expand(setting, n, n.Value.Value)
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		r.problemAt(setting, n, "has no value: remove it, or give it one")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.problemAt(setting, n, "anchors, aliases and tags of YAML are not read here: write the value itself")
	default:
		r.problemAt(setting, n, "must be a single value, not a list or a mapping")
	}
	return "", false
}

var (
	reference = regexp.MustCompile(`\$\$\{|\$\{[^}]*\}?`)
	variable  = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)
)

// expand replaces ${NAME} by the value of the environment variable, and $${ by ${.
func (r fileReader) expand(setting string, n ast.Node, text string) (string, bool) {
	complete := true
	expanded := reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$${" {
			return "${"
		}
		name := variable.FindStringSubmatch(found)
		if name == nil {
			r.problemAt(setting, n, "${ begins the name of an environment variable, as in ${NAME}: write $${ where ${ itself is meant")
			complete = false
			return ""
		}
		value, ok := r.sources.LookupEnv(name[1])
		if !ok {
			r.problemAt(setting, n, "the environment variable %s is not set: set it, or write $${ where ${ itself is meant", name[1])
			complete = false
		}
		return value
	})
	return expanded, complete
}
