package lab

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace-go/millrace/test/harness"
)

// Main is harness.Main for a package of tests that take long. Under -short it runs
// only those that are named, one a promise, unless -run says otherwise.
//
//	func TestMain(m *testing.M) { lab.Main(m, "TestCrash_…", "TestOutage_…") }
func Main(m *testing.M, short ...string) {
	flag.Parse()
	if run := flag.Lookup("test.run"); testing.Short() && run.Value.String() == "" {
		if err := run.Value.Set("^(" + strings.Join(short, "|") + ")$"); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			os.Exit(2)
		}
	}
	harness.Main(m)
}
