package config

import (
	"cmp"
	"fmt"
	"iter"
	"reflect"
	"strings"
)

// A Setting is one thing that can be set, as the tags of its field document it.
type Setting struct {
	Name        string // as in the file: "tls.cert_file", "routes[].prefix"
	Flag        string // without dashes; empty if there is none
	Env         string // empty if there is none
	InFile      bool
	Default     string // what a file could say instead of nothing
	Unset       string // in words, if there is no such default
	Placeholder string
	Group       string
	Help        string
	Switch      bool // the flag needs no value

	index []int // of the field in Config; nil for those of an identity or a route
}

// Settings returns all settings in the order in which to document them.
func Settings() []Setting {
	w := walker{}
	w.fields(reflect.TypeFor[Config](), "", nil)
	return w.settings
}

// fields yields the fields of a struct that are settings or hold some.
func fields(t reflect.Type) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.Tag.Get("key") != "" && !yield(f) {
				return
			}
		}
	}
}

type walker struct {
	settings []Setting
	group    string
	element  bool // inside a list or map, where flags cannot reach
}

func (w *walker) fields(t reflect.Type, prefix string, index []int) {
	for f := range fields(t) {
		key := f.Tag.Get("key")
		w.group = cmp.Or(f.Tag.Get("group"), w.group)
		at := append(index[:len(index):len(index)], f.Index...)
		switch {
		case f.Type.Kind() == reflect.Struct:
			w.fields(f.Type, prefix+key+".", at)
		case f.Type == reflect.TypeFor[[]Route]():
			w.elements(f.Type.Elem(), key+"[].")
		case f.Type == reflect.TypeFor[map[string]Identity]():
			w.elements(f.Type.Elem(), key+".NAME.")
		default:
			w.add(f, prefix+key, at)
		}
	}
}

func (w *walker) elements(t reflect.Type, prefix string) {
	outside := *w
	w.element = true
	w.fields(t, prefix, nil)
	w.element, w.group = outside.element, outside.group
}

func (w *walker) add(f reflect.StructField, name string, index []int) {
	s := Setting{
		Name:    name,
		InFile:  f.Tag.Get("nofile") == "",
		Default: f.Tag.Get("default"),
		Unset:   f.Tag.Get("unset"),
		Group:   w.group,
		Help:    f.Tag.Get("help"),
		Switch:  f.Type.Kind() == reflect.Bool,
	}
	if !w.element {
		s.index = index
		words := strings.NewReplacer(".", "-", "_", "-").Replace(name)
		s.Flag = cmp.Or(strings.Trim(f.Tag.Get("flag"), "-"), words)
		s.Env = "ENTRA_SIDECAR_" + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_"))
		s.Placeholder = cmp.Or(f.Tag.Get("value"), strings.ToUpper(f.Type.Name()))
		if f.Tag.Get("flag") == "-" {
			s.Flag = ""
		}
	}
	w.settings = append(w.settings, s)
}

// MarkdownTable returns the settings as the README shows them.
func MarkdownTable() string {
	var b strings.Builder
	b.WriteString("| flag | environment | file | default | |\n|---|---|---|---|---|\n")
	for _, s := range Settings() {
		file := s.Name
		if !s.InFile {
			file = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code("--", s.Flag), code("", s.Env), code("", file),
			cmp.Or(code("", s.Default), s.Unset), s.Help)
	}
	return b.String()
}

func code(prefix, text string) string {
	if text == "" {
		return ""
	}
	return "`" + prefix + text + "`"
}
