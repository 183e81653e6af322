package proc

import (
	"os"
	"path/filepath"
	"strconv"
)

// EnvRunDir is the folder through which the test processes of one run share
// servers and programs. Unset, processes of one user share a folder in the temp
// dir.
const EnvRunDir = "MILLRACE_RUN_DIR"

// RunFolder is the folder of this run, made if need be.
func RunFolder() (string, error) {
	dir := os.Getenv(EnvRunDir)
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "millrace-"+strconv.Itoa(os.Getuid()))
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// IsDir reports whether path is a folder.
func IsDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
