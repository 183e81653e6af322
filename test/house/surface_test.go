package house_test

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a user may import, and how much of it there may be. Not counted are the
// packages for those who implement a seam (test/outboxtest, locktest, historytest),
// the names that a package lists under the heading "For implementers" of its doc
// comment, with their methods, and methods that the standard library calls.
var (
	userPackages = patterns{
		allow: []string{"outbox/...", "sql", "adapters/...", "test/harness"},
		deny:  []string{"adapters/notifier/...", "adapters/internal/..."},
	}
	maxSurface  = 535 // exported functions, types and methods
	minExamples = 40  // with an Output comment, so that they run
)

// TestSurface_StaysSmall counts the exported functions, types and methods of the
// packages that users import, as go doc lists them.
func TestSurface_StaysSmall(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	counts, sum := map[string]int{}, 0
	aside := map[string][]string{}
	for _, s := range tr.sources {
		if !s.test && isUserPackage(s.pkg) && s.syntax.Doc != nil {
			aside[s.pkg] = append(aside[s.pkg], forImplementers(s.syntax.Doc.Text())...)
		}
	}
	for _, s := range tr.sources {
		if s.test || !isUserPackage(s.pkg) {
			continue
		}
		n := exportedIn(s.syntax, aside[s.pkg])
		counts[s.pkg] += n
		sum += n
	}
	for pkg, n := range counts {
		t.Logf("%4d %s", n, pkg)
	}
	t.Logf("%4d in all", sum)
	require.Greater(t, sum, 100, "the packages were not found")
	require.LessOrEqual(t, sum, maxSurface, "unexport what no user needs, or move what only implementers need into a package of its own")
}

// TestSurface_HasExamples counts the Examples that run.
func TestSurface_HasExamples(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	run := 0
	for _, s := range tr.sources {
		if !s.test {
			continue
		}
		for _, d := range s.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Example") {
				continue
			}
			if hasOutput(s.syntax, fn) {
				run++
				continue
			}
			t.Errorf("%s: %s has no Output comment: it compiles but never runs", s.at(fn.Pos()), fn.Name.Name)
		}
	}
	t.Logf("%d examples run", run)
	require.GreaterOrEqual(t, run, minExamples)
}

func isUserPackage(pkg string) bool {
	return !strings.Contains(pkg, "internal") && !slices.Contains([]string{"locktest", "historytest"}, path.Base(pkg)) && userPackages.match(pkg)
}

// standardMethods are called by the standard library, not by a user's code.
var standardMethods = []string{"Error", "Unwrap", "Is", "String", "GoString", "Format", "LogValue", "MarshalText", "MarshalJSON"}

// exportedIn counts a file's exported functions and types, and the exported
// methods of exported types, without the names of aside and the standard methods.
func exportedIn(f *ast.File, aside []string) (n int) {
	counted := func(owner, name string) bool {
		return ast.IsExported(owner) && ast.IsExported(name) && !slices.Contains(aside, owner) && !slices.Contains(aside, owner+"."+name)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && counted(d.Name.Name, d.Name.Name) {
				n++
			}
			if d.Recv != nil && counted(receiverName(d), d.Name.Name) && !slices.Contains(standardMethods, d.Name.Name) {
				n++
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if ts, ok := spec.(*ast.TypeSpec); ok && counted(ts.Name.Name, ts.Name.Name) {
					n++
				}
			}
		}
	}
	return n
}

var docLink = regexp.MustCompile(`\[\*?([A-Z]\w*(?:\.[A-Z]\w*)?)\]`)

// forImplementers lists the names that a package's doc comment links under the
// heading "For implementers".
func forImplementers(doc string) (names []string) {
	_, part, found := strings.Cut(doc, "# For implementers\n")
	if !found {
		return nil
	}
	if next := strings.Index(part, "\n# "); next >= 0 {
		part = part[:next]
	}
	for _, m := range docLink.FindAllStringSubmatch(part, -1) {
		names = append(names, m[1])
	}
	return names
}

func TestSurface_NamesForImplementersStepBack(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"Log", "Store.Acquire"}, forImplementers("Package x.\n\n# For implementers\n\n[Log], [*Store.Acquire].\n\n# Next\n\n[Writer]\n"))
	require.Empty(t, forImplementers("Package x has a [Writer].\n"))
	s, err := parse("x.go", "package x\n\ntype Log interface{}\ntype Store struct{}\n\nfunc (Store) Acquire() {}\nfunc (Store) Close() {}\nfunc (Store) Error() string { return \"\" }\nfunc New() {}\nfunc old() {}\n")
	require.NoError(t, err)
	require.Equal(t, 3, exportedIn(s.syntax, []string{"Log", "Store.Acquire"}))
	require.Equal(t, 5, exportedIn(s.syntax, nil))
}

func receiverName(fn *ast.FuncDecl) string {
	expr := fn.Recv.List[0].Type
	for {
		switch x := expr.(type) {
		case *ast.StarExpr:
			expr = x.X
		case *ast.IndexExpr:
			expr = x.X
		case *ast.IndexListExpr:
			expr = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// hasOutput says whether a comment within fn begins with "Output:" or
// "Unordered output:", which makes go test run it.
func hasOutput(f *ast.File, fn *ast.FuncDecl) bool {
	for _, c := range f.Comments {
		text := strings.ToLower(strings.TrimSpace(c.Text()))
		if c.Pos() > fn.Pos() && c.End() < fn.End() && (strings.HasPrefix(text, "output:") || strings.HasPrefix(text, "unordered output:")) {
			return true
		}
	}
	return false
}
