package house_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/millrace-go/millrace"

// tree is the repository as the rules see it.
type tree struct {
	folders []string // every folder, slash-separated, from the module's root
	sources []source
}

// source is one Go file.
type source struct {
	file    string   // "outbox/relay.go"
	pkg     string   // its folder: "outbox"
	test    bool     // a _test.go file
	imports []string // "fmt", "./outbox" for our own, "github.com/lib/pq"
	lines   int
	syntax  *ast.File
	fset    *token.FileSet
}

// at returns the source's line as file:line.
func (s *source) at(pos token.Pos) string {
	return s.file + ":" + strconv.Itoa(s.fset.Position(pos).Line)
}

// imported returns the name under which s knows the import, or "".
func (s *source) imported(importPath string) string {
	for _, spec := range s.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// listed is what we read of `go list -json`.
type listed struct {
	Dir                                                          string
	GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
}

// load reads the tree under root: packages from go list, which also knows the
// files that build tags leave out, and every folder.
func load(root string) (tree, error) {
	var t tree
	root, err := filepath.Abs(root)
	if err != nil {
		return t, err
	}
	packages, err := list(root)
	if err != nil {
		return t, err
	}
	for _, p := range packages {
		folder, err := filepath.Rel(root, p.Dir)
		if err != nil {
			return t, err
		}
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return t, err
			}
			s, err := parse(path.Join(filepath.ToSlash(folder), name), string(text))
			if err != nil {
				return t, err
			}
			t.sources = append(t.sources, s)
		}
	}
	t.folders, err = folders(root)
	return t, err
}

func list(root string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-json", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// folders lists the folders under root, without hidden ones and testdata.
func folders(root string) (found []string, err error) {
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || name == root {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
			return fs.SkipDir
		}
		folder, err := filepath.Rel(root, name)
		found = append(found, filepath.ToSlash(folder))
		return err
	})
	return found, err
}

// parse returns the source of a file's text.
func parse(file, text string) (source, error) {
	s := source{file: file, pkg: path.Dir(file), test: strings.HasSuffix(file, "_test.go"), lines: strings.Count(text, "\n"), fset: token.NewFileSet()}
	var err error
	s.syntax, err = parser.ParseFile(s.fset, file, text, parser.ParseComments)
	if err != nil {
		return s, err
	}
	for _, spec := range s.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return s, err
		}
		if p == module || strings.HasPrefix(p, module+"/") {
			p = "." + strings.TrimPrefix(p, module)
		}
		s.imports = append(s.imports, p)
	}
	return s, nil
}
