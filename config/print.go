package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Print writes the configuration as a file that would have the same effect,
// with the origin of each value beside it. Secrets are redacted; what is not
// set, or cannot be in a file, is commented out.
func (c *Config) Print(w io.Writer) error {
	p := printer{config: c}
	p.settings("", reflect.ValueOf(c).Elem(), "", false)
	_, err := p.text.WriteTo(w)
	return err
}

type printer struct {
	config *Config
	text   bytes.Buffer
}

// settings writes the fields of a struct; brief leaves out those not set.
func (p *printer) settings(setting string, v reflect.Value, indent string, brief bool) {
	for f := range fields(v.Type()) {
		key, value, unset := f.Tag.Get("key"), v.FieldByIndex(f.Index), f.Tag.Get("unset")
		switch inFile := f.Tag.Get("nofile") == ""; {
		case inFile && (unset == "" || !value.IsZero()):
			p.value(setting+key, value, indent+key)
		case !value.IsZero():
			p.value(setting+key, value, indent+"# "+key)
		case inFile && !brief:
			fmt.Fprintf(&p.text, "%s# %s: %s\n", indent, key, unset)
		}
	}
}

// value writes a value behind its key, whose indentation it continues.
func (p *printer) value(setting string, v reflect.Value, key string) {
	indent := key[:len(key)-len(strings.TrimLeft(key, " "))]
	switch v.Kind() {
	case reflect.Struct:
		fmt.Fprintf(&p.text, "%s:\n", key)
		p.settings(setting+".", v, indent+"  ", strings.HasPrefix(setting, "identities."))
	case reflect.Map:
		fmt.Fprintf(&p.text, "%s:\n", key)
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), byText) {
			p.value(setting+"."+k.String(), v.MapIndex(k), indent+"  "+k.String())
		}
	case reflect.Slice:
		fmt.Fprintf(&p.text, "%s:\n", key)
		for i := range v.Len() {
			begin := p.text.Len() + len(indent)
			p.settings(fmt.Sprintf("%s[%d].", setting, i), v.Index(i), indent+"  ", true)
			copy(p.text.Bytes()[begin:], "- ")
		}
	default:
		fmt.Fprintf(&p.text, "%-56s # %s\n", key+": "+format(v.Interface()), p.config.Origin(setting))
	}
}

func byText(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }

// format writes a scalar so that reading it gives the same value.
func format(v any) string {
	switch v := v.(type) {
	case bool, Size:
		return fmt.Sprint(v)
	case time.Duration:
		return shorten.Replace(v.String())
	}
	text := strings.ReplaceAll(fmt.Sprint(v), "${", "$${")
	out, _ := yaml.Marshal(text) // a string cannot fail
	return strings.TrimSpace(string(out))
}

// shorten makes 5m of 5m0s, and 1h of 1h0m0s.
var shorten = strings.NewReplacer("h0m0s", "h", "m0s", "m")
