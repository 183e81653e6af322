package fetch

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/xi2/xz"
)

// unpackJar unpacks the tar.xz archive that a jar holds into dir.
func unpackJar(jar, dir string) error {
	z, err := zip.OpenReader(jar)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, entry := range z.File {
		if !strings.HasSuffix(entry.Name, ".txz") {
			continue
		}
		archive, err := entry.Open()
		if err != nil {
			return err
		}
		defer archive.Close()
		if err := unpackTarXz(archive, dir); err != nil {
			return fmt.Errorf("%s in %s: %w", entry.Name, jar, err)
		}
		return nil
	}
	return fmt.Errorf("%s holds no .txz archive", jar)
}

// unpackTarXz unpacks folders, files and symbolic links into dir and not outside
// of it. Everything is readable by all: a server may run as another user than the
// one that unpacks it.
func unpackTarXz(archive io.Reader, dir string) error {
	plain, err := xz.NewReader(bufio.NewReader(archive), 0)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries := tar.NewReader(plain)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackEntry(root, header, entries); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, header *tar.Header, content io.Reader) error {
	name := path.Clean(header.Name)
	if header.Typeflag == tar.TypeDir {
		return makeFolder(root, name)
	}
	if err := makeFolder(root, path.Dir(name)); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeReg:
		return writeFile(root, name, header.FileInfo().Mode().Perm()|0o444, content)
	}
	return fmt.Errorf("%s: an entry of type %q is not expected", header.Name, header.Typeflag)
}

// makeFolder makes a folder and its parents, open to all whatever the umask.
func makeFolder(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if err := makeFolder(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}

func writeFile(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close(), root.Chmod(name, mode))
}
