package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Use says which settings a command reads, and which of them it cannot do
// without.
type Use struct {
	Required []Name
	Either   []Name // exactly one of them
	Optional []Name
}

// All lists the settings of u.
func (u Use) All() []Name { return slices.Concat(u.Either, u.Required, u.Optional) }

// AddFlags gives fs one flag for each setting of u. The values stay text until
// Load, so that a bad one is reported together with everything else.
func AddFlags(fs *pflag.FlagSet, u Use) {
	for _, n := range u.All() {
		s := lookup(n)
		if fs.Lookup(string(n)) != nil {
			continue
		}
		fs.Var(&text{s.def, s.kind}, string(n), s.usage+" ["+strings.Join(s.envs(), ", ")+"]")
		if s.kind == "bool" {
			fs.Lookup(string(n)).NoOptDefVal = "true"
		}
		if s.former != "" {
			addFormer(fs, s)
		}
	}
}

// addFormer adds a hidden flag of the setting's former name, which only says what it
// is called now.
func addFormer(fs *pflag.FlagSet, s *setting) {
	fs.Var(renamed(s.name), string(s.former), "")
	f := fs.Lookup(string(s.former))
	f.Hidden, f.NoOptDefVal = true, "true"
}

// renamed is a flag that refuses every value: the flag is now called by this name.
type renamed Name

// Set implements pflag.Value.
func (r renamed) Set(string) error { return RenamedError{Now: Name(r)} }

// RenamedError is the error of a flag that is set by its former name.
type RenamedError struct{ Now Name }

func (e RenamedError) Error() string { return fmt.Sprintf("is now called --%s", e.Now) }

// String implements pflag.Value.
func (r renamed) String() string { return "" }

// Type implements pflag.Value.
func (r renamed) Type() string { return "string" }

// text is a flag that takes anything and says in the help what it should be.
type text struct{ value, kind string }

// Set implements pflag.Value.
func (t *text) Set(v string) error { t.value = v; return nil }

// String implements pflag.Value.
func (t *text) String() string { return t.value }

// Type implements pflag.Value.
func (t *text) Type() string { return t.kind }

// Load gathers the settings of u: a flag that was set in fs, else the
// environment read by getenv, else the YAML file at path (empty for none), else
// the default. The error joins everything that is wrong.
func Load(fs *pflag.FlagSet, getenv func(string) string, path string, u Use) (*Config, error) {
	var errs []error
	file := map[Name]value{}
	if path != "" {
		var err error
		if file, err = readFile(path); err != nil {
			errs = append(errs, err)
		}
	}
	c := &Config{}
	var either []string
	for _, n := range u.All() {
		s := lookup(n)
		v, err := find(s, fs, getenv, file)
		if err != nil {
			errs = append(errs, err)
			if slices.Contains(u.Either, n) {
				u.Either = nil // enough said
			}
			continue
		}
		if v.text != "" && slices.Contains(u.Either, n) {
			either = append(either, fmt.Sprintf("%s (%s)", n, v.source))
		}
		switch {
		case v.text != "":
			if err := s.set(c, v.text); err != nil {
				errs = append(errs, fmt.Errorf("%s (%s): %w", n, v.source, err))
			}
		case slices.Contains(u.Required, n):
			errs = append(errs, fmt.Errorf("%s: is missing: %s", n, s.hint))
		}
	}
	errs = append(errs, u.choice(either))
	if c.WindowRows != 0 && c.WindowRows < c.BatchRows {
		errs = append(errs, fmt.Errorf("%s: is %d, less than %s %d: raise one or lower the other", WindowRows, c.WindowRows, BatchRows, c.BatchRows))
	}
	return c, errors.Join(errs...)
}

// choice checks that one of u.Either was given.
func (u Use) choice(given []string) error {
	switch {
	case len(u.Either) == 0 || len(given) == 1:
		return nil
	case len(given) > 1:
		return fmt.Errorf("%s: keep one of them", strings.Join(given, " and "))
	}
	var hints []string
	for _, n := range u.Either {
		hints = append(hints, lookup(n).hint)
	}
	return fmt.Errorf("%s: is missing: %s", u.Either[0], strings.Join(hints, "; or "))
}

// find takes the first source that holds the setting.
func find(s *setting, fs *pflag.FlagSet, getenv func(string) string, file map[Name]value) (value, error) {
	if f := fs.Lookup(string(s.name)); f != nil && f.Changed {
		return value{f.Value.String(), "flag --" + string(s.name)}, nil
	}
	if s.former != "" && getenv(envOf(s.former)) != "" {
		return value{}, fmt.Errorf("%s: %s is now called %s", s.former, envOf(s.former), s.env())
	}
	for _, env := range s.envs() {
		v, err := fromEnv(s, env, getenv)
		if err != nil || v.text != "" {
			return v, err
		}
	}
	if v, ok := file[s.name]; ok && v.text != "" {
		return v, nil
	}
	return value{s.def, "default"}, nil
}

// fromEnv reads env, or for a secret the file that ENV_FILE names.
func fromEnv(s *setting, env string, getenv func(string) string) (value, error) {
	v := value{getenv(env), "env " + env}
	if !s.secret {
		return v, nil
	}
	path := getenv(env + "_FILE")
	switch {
	case path == "":
		return v, nil
	case v.text != "":
		return value{}, fmt.Errorf("%s: both %s and %s_FILE are set: keep one", s.name, env, env)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return value{}, fmt.Errorf("%s (env %s_FILE): %w", s.name, env, err)
	}
	return value{strings.TrimSpace(string(secret)), "env " + env + "_FILE"}, nil
}
