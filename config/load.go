package config

import (
	"cmp"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Sources are where settings come from, besides the file that they name.
type Sources struct {
	Flags     map[string]string                // those given, by name without dashes
	LookupEnv func(name string) (string, bool) // such as os.LookupEnv
}

// Load reads, merges and validates the settings. Its error is [Problems].
func Load(s Sources) (*Config, error) {
	l := newLoader(s)
	l.merge()
	l.shorthand()
	l.validate()
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return l.config, nil
}

// AdminListen returns the address of the admin listener, and does not mind
// problems in other settings: a health check runs every few seconds beside a
// process that has refused them already, or has started without.
func AdminListen(s Sources) (string, error) {
	l := newLoader(s)
	l.merge()
	l.check("admin.listen", (&address{text: l.config.Admin.Listen}).parse())
	others := func(p *Problem) bool { return p.Setting != "admin.listen" && p.Setting != "config" }
	if problems := slices.DeleteFunc(l.problems, others); len(problems) > 0 {
		return "", problems
	}
	return l.config.Admin.Listen, nil
}

// A loader gathers the configuration and its problems.
type loader struct {
	sources  Sources
	config   *Config
	origins  map[string]string // shared with config
	problems Problems
}

func newLoader(s Sources) *loader {
	origins := make(map[string]string)
	return &loader{sources: s, origins: origins, config: &Config{origins: origins}}
}

// merge applies default, file, environment and flags, in this order.
func (l *loader) merge() {
	config := reflect.ValueOf(l.config).Elem()
	setDefaults(config)
	for _, s := range Settings() {
		if text, origin, ok := l.sources.lookup(s); ok {
			l.set(s.Name, origin, text, config.FieldByIndex(s.index))
		}
		if s.Name == "config" && l.config.ConfigFile != "" { // it comes first: the others win over the file
			l.readFile(l.config.ConfigFile)
		}
	}
}

// lookup returns what flags or environment say, and which of them.
func (s Sources) lookup(setting Setting) (text, origin string, ok bool) {
	if text, ok = s.Flags[setting.Flag]; ok && setting.Flag != "" {
		return text, "--" + setting.Flag, true
	}
	if setting.Env == "" {
		return "", "", false
	}
	text, ok = s.LookupEnv(setting.Env)
	return text, setting.Env, ok
}

// getenv returns a variable that is not ours, for which empty means unset.
func (s Sources) getenv(names ...string) string {
	for _, name := range names {
		if value, _ := s.LookupEnv(name); value != "" {
			return value
		}
	}
	return ""
}

// shorthand makes a route of a single upstream, which wins over the file's
// routes as every flag and variable wins over the file. That of the environment
// that others use too, AZURE_OPENAI_ENDPOINT, counts only if there is nothing
// else.
func (l *loader) shorthand() {
	c := l.config
	if l.origins["routes"] == "" && l.origins["upstream"] == "" {
		if c.Upstream = l.sources.getenv("AZURE_OPENAI_ENDPOINT"); c.Upstream != "" {
			l.origins["upstream"] = "AZURE_OPENAI_ENDPOINT"
		}
	}
	switch given := l.origins["upstream"] != ""; {
	case c.Upstream != "":
		if routes := l.origins["routes"]; routes != "" {
			l.warn("upstream", "wins over the routes of the file (%s), none of which is used", routes)
		}
		r := Route{Scope: c.Scope}
		setDefaults(reflect.ValueOf(&r).Elem())
		l.set("upstream", l.origins["upstream"], c.Upstream, reflect.ValueOf(&r.Upstream).Elem())
		c.Routes = []Route{r}
		delete(l.origins, "routes")
	case c.Scope != "" && len(c.Routes) > 0:
		for i := range c.Routes {
			c.Routes[i].Scope = c.Scope
			l.origins[l.routeSetting(i, "scope")] = l.origins["scope"]
		}
	case l.origins["routes"] == "" && !given && !l.refused("config"): // else the routes are probably in that file
		l.problem("upstream", "is missing: set ENTRA_SIDECAR_UPSTREAM or AZURE_OPENAI_ENDPOINT to https://NAME.openai.azure.com, "+
			"or write routes into a file for --config")
	}
}

// setDefaults gives the fields of a struct the defaults of their tags.
func setDefaults(v reflect.Value) {
	for f := range fields(v.Type()) {
		field := v.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.Struct {
			setDefaults(field)
		} else if text := f.Tag.Get("default"); text != "" {
			if err := parse(text, field); err != nil {
				panic(fmt.Sprintf("default of %s: %v", f.Name, err)) // the tag is wrong
			}
		}
	}
}

// set gives a setting its value, or reports why it cannot have it.
func (l *loader) set(setting, origin, text string, v reflect.Value) {
	l.origins[setting] = origin
	switch {
	case text == "":
		l.problem(setting, "is set but empty: remove it, or give it a value")
	case strings.ContainsFunc(text, unicode.IsControl):
		l.problem(setting, "holds a line break or another control character: remove it (a secret saved with a line break at its end is the usual reason)")
	case strings.TrimSpace(text) != text:
		l.problem(setting, "begins or ends with white space: remove it")
	default:
		if err := parse(text, v); err != nil {
			l.problem(setting, "%v", err)
		}
	}
}

// parse sets v to what the text says, or leaves it alone. Its errors show no
// secret.
func parse(text string, v reflect.Value) error {
	parsed, err := parseAs(text, v.Interface())
	if err == nil {
		v.Set(reflect.ValueOf(parsed))
	}
	return err
}

// parseAs returns a value of the same type as like.
func parseAs(text string, like any) (any, error) {
	switch like.(type) {
	case string:
		return text, nil
	case Secret:
		return Secret(text), nil
	case Size:
		return ParseSize(text)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%s is neither true nor false", show(text))
		}
		return b, nil
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%s is not a duration: write numbers with units, such as 90s, 10m or 1h30m", show(text))
		}
		return d, nil
	case *url.URL:
		return parseUpstream(text)
	}
	panic(fmt.Sprintf("no setting has the type %T", like)) // a field of ours is wrong
}

// problem notes what is wrong with a setting.
func (l *loader) problem(setting, format string, args ...any) {
	l.problems = append(l.problems, l.describe(setting, format, args...))
}

// refused reports whether a setting has a problem.
func (l *loader) refused(setting string) bool {
	return slices.ContainsFunc(l.problems, func(p *Problem) bool { return p.Setting == setting })
}

// check notes a problem, if there is one.
func (l *loader) check(setting, text string) {
	if text != "" {
		l.problem(setting, "%s", text)
	}
}

// warn notes what is odd about a setting.
func (l *loader) warn(setting, format string, args ...any) {
	l.config.Warnings = append(l.config.Warnings, l.describe(setting, format, args...).Error())
}

func (l *loader) describe(setting, format string, args ...any) *Problem {
	// A setting that was not written has the place of what it belongs to.
	parent := setting[:max(strings.LastIndexByte(setting, '.'), 0)]
	return &Problem{Setting: setting, Origin: cmp.Or(l.origins[setting], l.origins[parent]), Text: fmt.Sprintf(format, args...)}
}
