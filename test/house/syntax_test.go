package house_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statement recognizes a text that begins as an SQL statement does.
var statement = regexp.MustCompile(`(?is)^\s*(` +
	`select\s+.*\s(from|as|where)\s|(?-i:SELECT)\s|insert\s+into\s+\S+\s*(\(|select|values)|update\s+\S+(\s+as\s+\S+|\s+\S+)?\s+set\s|delete\s+from\s|` +
	`with\s+(recursive\s+)?\w+(\s*\([^)]*\))?\s+as\s+(materialized\s+|not\s+materialized\s+)?\(|merge\s+into\s|` +
	`(create|alter|drop)\s+(or\s+replace\s+)?(unlogged\s+|temp\s+|temporary\s+|unique\s+)?(table|index|database|role|user|schema|function|trigger|sequence|view|type|system|extension|publication|subscription)\s|` +
	`truncate\s+(table\s+)?\w+\s*$|(?-i:(GRANT|REVOKE|COPY|LISTEN|NOTIFY|LOCK|VACUUM|ANALYZE|PREPARE|SAVEPOINT)\s)|set\s+(local\s+)?\w+\s*=|(?-i:SET)\s+|` +
	`(?-i:BEGIN|COMMIT|ROLLBACK)(\s|$))`)

func sqlElsewhere(t tree) (found []finding) {
	for _, s := range t.sources {
		if s.test || sqlFiles.match(s.file) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if _, isImport := n.(*ast.ImportSpec); isImport {
				return false
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && statement.MatchString(text) {
				found = append(found, finding{s.at(lit.Pos()), "sql-text", fmt.Sprintf("%.60q", strings.Join(strings.Fields(text), " "))})
			}
			return true
		})
	}
	return found
}

func filesLong(t tree) (found []finding) {
	for _, s := range t.sources {
		if !s.test && s.lines > maxLines && !ast.IsGenerated(s.syntax) {
			found = append(found, finding{s.file, "length", fmt.Sprintf("has %d lines, more than %d", s.lines, maxLines)})
		}
	}
	return found
}

// testsSleep lets files with a fake clock sleep: there it waits for nothing real.
func testsSleep(t tree) []finding {
	return calls(t, "sleep", func(s *source, call *ast.SelectorExpr) string {
		if s.imported("testing/synctest") != "" {
			return ""
		}
		if x, ok := call.X.(*ast.Ident); ok && call.Sel.Name == "Sleep" && x.Name == s.imported("time") {
			return "calls time.Sleep"
		}
		return ""
	})
}

func testsSkip(t tree) []finding {
	return calls(t, "skip", func(s *source, call *ast.SelectorExpr) string {
		x, ok := call.X.(*ast.Ident)
		if !ok || s.isImport(x.Name) || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) {
			return ""
		}
		if _, listed := skips[s.file+": "+s.enclosing(call.Pos())]; listed {
			return ""
		}
		return s.enclosing(call.Pos()) + " calls " + call.Sel.Name
	})
}

// calls asks offends of every mention of x.name in the tests and in test/.
func calls(t tree, rule string, offends func(s *source, call *ast.SelectorExpr) string) (found []finding) {
	for _, s := range t.sources {
		if !s.test && (rule == "sleep" || !within("test/...", s.pkg)) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if offender := offends(&s, sel); offender != "" {
					found = append(found, finding{s.at(sel.Pos()), rule, offender})
				}
			}
			return true
		})
	}
	return found
}

// isImport reports whether name is a package of s.
func (s *source) isImport(name string) bool {
	return slices.ContainsFunc(s.syntax.Imports, func(spec *ast.ImportSpec) bool {
		p, err := strconv.Unquote(spec.Path.Value)
		return err == nil && s.imported(p) == name
	})
}

// enclosing names the function that holds pos.
func (s *source) enclosing(pos token.Pos) string {
	for _, d := range s.syntax.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Pos() <= pos && pos < f.End() {
			return f.Name.Name
		}
	}
	return ""
}

// declared names the functions, methods and types of s.
func (s *source) declared() (names []string) {
	for _, d := range s.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					names = append(names, t.Name.Name)
				}
			}
		}
	}
	return names
}
