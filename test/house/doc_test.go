package house_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// undocumented methods are those whose contract everybody knows.
var undocumented = []string{"Error", "String", "Len", "Less", "Swap"}

func docsMissing(t tree) (found []finding) {
	described := map[string]bool{} // folders with a package comment
	first := map[string]string{}   // their first file
	for _, s := range t.sources {
		if s.test || strings.HasSuffix(s.syntax.Name.Name, "_test") {
			continue
		}
		if s.syntax.Doc != nil {
			described[s.pkg] = true
		}
		if first[s.pkg] == "" {
			first[s.pkg] = s.file
		}
		miss := func(name *ast.Ident) {
			found = append(found, finding{s.at(name.Pos()), "doc", name.Name + " has no doc comment"})
		}
		for _, d := range s.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && receiverExported(d) && (d.Recv == nil || !slices.Contains(undocumented, d.Name.Name)) {
					miss(d.Name)
				}
			case *ast.GenDecl:
				declDocs(d, !within("cmd/...", s.pkg), miss)
			}
		}
	}
	for pkg, file := range first {
		if !described[pkg] {
			found = append(found, finding{file, "doc", "package " + pkg + " has no package comment"})
		}
	}
	return found
}

// receiverExported reports whether d is a function, or a method of an exported type.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	of := d.Recv.List[0].Type
	for {
		switch x := of.(type) {
		case *ast.StarExpr:
			of = x.X
		case *ast.IndexExpr:
			of = x.X
		case *ast.IndexListExpr:
			of = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// declDocs finds exported types, constants and variables without a comment of
// their own, beside them, or above their group; in a library, fields too.
func declDocs(d *ast.GenDecl, library bool, miss func(*ast.Ident)) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && d.Doc == nil {
				miss(spec.Name)
			}
			if library && spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Config") {
				fieldDocs(d.Doc.Text()+spec.Doc.Text(), spec, miss)
			}
		case *ast.ValueSpec:
			if d.Tok == token.IMPORT || spec.Doc != nil || spec.Comment != nil || d.Doc != nil {
				continue
			}
			for _, name := range spec.Names {
				if name.IsExported() {
					miss(name)
				}
			}
		}
	}
}

// fieldDocs finds the fields of a Config that no comment of it speaks of: their
// own, the type's, or another field's that names them.
func fieldDocs(doc string, spec *ast.TypeSpec, miss func(*ast.Ident)) {
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		doc += f.Doc.Text()
	}
	for _, f := range st.Fields.List {
		for _, name := range f.Names {
			if name.IsExported() && f.Doc == nil && f.Comment == nil && !strings.Contains(doc, name.Name) {
				miss(name)
			}
		}
	}
}
