package house_test

import (
	"path"
	"slices"
	"strings"
)

// within reports whether p is pattern, or below it if pattern ends in "/...".
func within(pattern, p string) bool {
	if folder, deep := strings.CutSuffix(pattern, "/..."); deep {
		return p == folder || strings.HasPrefix(p, folder+"/")
	}
	return p == pattern
}

// patterns select files: "folder/..." for all below, or a path.Match pattern.
type patterns struct{ allow, deny []string }

func (p patterns) match(file string) bool {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(pattern string) bool {
			ok, err := path.Match(pattern, file)
			return within(pattern, file) || err == nil && ok
		})
	}
	return in(p.allow) && !in(p.deny)
}

func directionBroken(t tree) (found []finding) {
	for _, s := range t.sources {
		row := slices.IndexFunc(direction, func(d directionRow) bool { return within(d.from, s.pkg) })
		if row < 0 {
			found = append(found, finding{s.file, "direction", "package " + s.pkg + " has no row in the direction table"})
			continue
		}
		may := direction[row].may
		if s.test {
			may = slices.Concat(may, direction[row].test)
		}
		for _, imported := range s.imports {
			if !allowed(may, s.pkg, imported) {
				found = append(found, finding{s.file, "direction", s.pkg + " may not import " + imported})
			}
		}
	}
	return found
}

func allowed(may []string, pkg, imported string) bool {
	ours := imported == "." || strings.HasPrefix(imported, "./")
	elsewhere := !ours && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
	return slices.ContainsFunc(may, func(word string) bool {
		switch word {
		case std:
			return !ours && !elsewhere
		case third:
			return elsewhere
		case own:
			return within("./"+pkg+"/...", imported)
		}
		return within(word, imported)
	})
}

func watermillElsewhere(t tree) (found []finding) {
	for _, s := range t.sources {
		for _, imported := range s.imports {
			if strings.HasPrefix(imported, "github.com/ThreeDotsLabs/") && !watermillFiles.match(s.file) {
				found = append(found, finding{s.file, "watermill", "imports " + imported})
			}
		}
	}
	return found
}

func foldersUnknown(t tree) (found []finding) {
	for _, folder := range t.folders {
		parent, name := path.Split(folder)
		known := map[string][]string{"": topFolders, "adapters/": adapterFolders, "test/": testFolders, "cmd/": cmdFolders, "adapters/notifier/": notifierFolders}[parent]
		if known != nil && !slices.Contains(known, name) {
			found = append(found, finding{folder, "folder", "is not one of " + strings.Join(known, ", ")})
		}
	}
	for _, s := range t.sources {
		if top, _, _ := strings.Cut(s.file, "/"); slices.Contains(foldersWithout, top) {
			found = append(found, finding{s.file, "folder", top + " holds no Go"})
		}
		if s.pkg == "." {
			found = append(found, finding{s.file, "folder", "the top holds no Go"})
		}
	}
	return found
}

func namesEmpty(t tree) (found []finding) {
	for _, folder := range t.folders {
		if name := path.Base(folder); slices.Contains(emptyNames, name) {
			found = append(found, finding{folder, "name", "folder " + name})
		}
	}
	for _, s := range t.sources {
		if name := strings.TrimSuffix(s.syntax.Name.Name, "_test"); slices.Contains(emptyNames, name) {
			found = append(found, finding{s.at(s.syntax.Name.Pos()), "name", "package " + name})
		}
	}
	return found
}
