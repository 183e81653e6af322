package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// value is a setting as it was found, and where.
type value struct {
	text   string
	source string // "flag --kafka", "env KAFKA_BROKERS", "file m.yaml:3:1", "default"
}

// readFile returns the settings of the YAML file at path. Every unknown, doubled
// or oddly shaped key is reported with its line and column.
func readFile(path string) (map[Name]value, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	found := make(map[Name]value)
	var errs []error
	for _, doc := range file.Docs {
		errs = append(errs, readDocument(path, doc.Body, found)...)
	}
	return found, errors.Join(errs...)
}

func readDocument(path string, body ast.Node, found map[Name]value) []error {
	var pairs []*ast.MappingValueNode
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return []error{fmt.Errorf("--config %s: must be a mapping of settings", at(path, body))}
	}
	var errs []error
	for _, p := range pairs {
		if err := readPair(path, p, found); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func readPair(path string, p *ast.MappingValueNode, found map[Name]value) error {
	where := at(path, p.Key)
	name := Name(p.Key.GetToken().Value)
	for _, s := range settings {
		if s.former == name {
			return fmt.Errorf("--config %s: key %q is now called %q", where, name, s.name)
		}
	}
	if lookup(name) == nil {
		return fmt.Errorf("--config %s: unknown key %q: the keys are %s", where, name, strings.Join(names(), ", "))
	}
	if _, twice := found[name]; twice {
		return fmt.Errorf("--config %s: key %q is given twice", where, name)
	}
	text, ok := scalar(p.Value)
	if !ok {
		return fmt.Errorf("--config %s: key %q must be a single value or a list of them", where, name)
	}
	found[name] = value{text: text, source: "file " + where}
	return nil
}

// scalar returns the text of a single value, or of a list joined by commas.
func scalar(n ast.Node) (string, bool) {
	if seq, ok := n.(*ast.SequenceNode); ok {
		parts := make([]string, 0, len(seq.Values))
		for _, item := range seq.Values {
			s, ok := scalar(item)
			if !ok {
				return "", false
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), true
	}
	if lit, ok := n.(*ast.LiteralNode); ok {
		return strings.TrimSpace(lit.Value.Value), true
	}
	if _, ok := n.(ast.ScalarNode); !ok {
		return "", false
	}
	if _, null := n.(*ast.NullNode); null {
		return "", true
	}
	return n.GetToken().Value, true
}

func at(path string, n ast.Node) string {
	pos := n.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", path, pos.Line, pos.Column)
}

func names() []string {
	out := make([]string, len(settings))
	for i, s := range settings {
		out[i] = string(s.name)
	}
	return out
}
