package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/alecthomas/kong"

	"entra-sidecar/config"
)

// commands is the command line, but for the flags of the settings, which every
// command takes.
type commands struct {
	Serve       serveCommand       `cmd:"" default:"1" help:"Run the proxy. This is what happens without a command."`
	Check       checkCommand       `cmd:"" help:"Examine each route step by step, and say what to do about what is wrong."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a running sidecar whether it is ready: exit code 0 or 1."`
	Config      configCommand      `cmd:"" help:"Print the configuration in force, and where each value comes from."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

const description = `Gives every request to Azure OpenAI an Entra ID token.

A flag wins over its environment variable (--drain-timeout: ENTRA_SIDECAR_DRAIN_TIMEOUT), and that over the YAML file (drain_timeout), which also holds routes and identities.`

type serveCommand struct{}

func (serveCommand) Run(ctx context.Context, e env) error {
	c, err := config.Load(e.sources)
	if err != nil {
		return err
	}
	logger, err := newLogger(c.Log, e.stderr)
	if err != nil {
		return err
	}
	return serve(ctx, c, logger, e.lookup)
}

// parseAndRun runs the command that the arguments name.
func parseAndRun(ctx context.Context, args []string, e env) error {
	var helped bool
	flags := newFlags(config.Settings())
	parser, err := kong.New(&commands{},
		kong.Embed(flags.target.Interface()),
		kong.Name("entra-sidecar"),
		kong.Description(description),
		kong.Writers(e.stdout, e.stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 120}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%w (entra-sidecar --help lists commands and flags)", err)}
	}
	e.sources = config.Sources{Flags: flags.given(), LookupEnv: e.lookup}
	return parsed.Run(e)
}

// settingFlags are the flags of the settings, for kong. They hold texts: reading
// them is left to package config, which reports all problems at once.
type settingFlags struct {
	settings []config.Setting
	target   reflect.Value // *struct, a field for each of settings
}

// A textFlag needs a value.
type textFlag string

// Decode implements [kong.MapperValue].
func (f *textFlag) Decode(ctx *kong.DecodeContext) error {
	if !ctx.Scan.Peek().IsValue() {
		return errors.New("needs a value")
	}
	return ctx.Scan.PopValueInto("value", (*string)(f))
}

// A switchFlag may stand without a value, which then is "true".
type switchFlag string

// Decode implements [kong.MapperValue].
func (f *switchFlag) Decode(ctx *kong.DecodeContext) error {
	*f = "true"
	if ctx.Scan.Peek().Type == kong.FlagValueToken { // --flag=value
		return ctx.Scan.PopValueInto("value", (*string)(f))
	}
	return nil
}

// IsBool implements [kong.BoolMapperValue].
func (*switchFlag) IsBool() bool { return true }

func newFlags(settings []config.Setting) settingFlags {
	var f settingFlags
	var fields []reflect.StructField
	for _, s := range settings {
		if s.Flag == "" {
			continue
		}
		field := reflect.StructField{Name: "F" + strconv.Itoa(len(fields)), Type: reflect.TypeFor[*textFlag](), Tag: flagTag(s)}
		if s.Switch {
			field.Type = reflect.TypeFor[*switchFlag]()
		}
		f.settings = append(f.settings, s)
		fields = append(fields, field)
	}
	f.target = reflect.New(reflect.StructOf(fields))
	return f
}

func flagTag(s config.Setting) reflect.StructTag {
	help := s.Help
	switch {
	case s.Switch && s.Default == "true":
		help += " On by default: --" + s.Flag + "=false turns it off."
	case !s.Switch && s.Default != "":
		help += " Default " + s.Default + "."
	}
	return reflect.StructTag(fmt.Sprintf("name:%q help:%q group:%q placeholder:%q", s.Flag, help, s.Group+":", s.Placeholder))
}

// given returns the flags on the command line.
func (f settingFlags) given() map[string]string {
	given := make(map[string]string)
	for i, s := range f.settings {
		if field := f.target.Elem().Field(i); !field.IsNil() {
			given[s.Flag] = field.Elem().String()
		}
	}
	return given
}
