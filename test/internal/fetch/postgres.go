package fetch

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// PostgresVersion is the Postgres that the harness fetches from Maven where none
// is installed.
const PostgresVersion = "18.1.0"

const postgresPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>postgres-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.zonky.test.postgres</groupId>
      <artifactId>embedded-postgres-binaries-%s</artifactId>
      <version>%s</version>
    </dependency>
  </dependencies>
</project>
`

var errNoPostgres = NotInstalled("Postgres",
	"apt-get install postgresql, brew install postgresql, install Maven and xz to have it fetched, or set MILLRACE_POSTGRES_URL")

// FetchPostgres returns server programs from the cache, which Maven fills once.
func FetchPostgres(ctx context.Context) (Postgres, error) {
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "arm64", "arm64v8", 1)
	dir, err := Cached(ctx, "postgres-"+PostgresVersion+"-"+platform, func(ctx context.Context, dir string) error {
		mvn, err := exec.LookPath("mvn")
		if err != nil {
			return errNoPostgres
		}
		if _, err := exec.LookPath("xz"); err != nil {
			return errNoPostgres
		}
		Progress("fetching Postgres %s through Maven (15 MB, once)", PostgresVersion)
		return unpackPostgres(ctx, mvn, fmt.Sprintf(postgresPOM, platform, PostgresVersion), dir)
	})
	if err != nil {
		return Postgres{}, err
	}
	bin := filepath.Join(dir, "bin")
	version, ok := postgresVersion(ctx, bin)
	if !ok {
		return Postgres{}, fmt.Errorf("the programs in %s do not run", bin)
	}
	return Postgres{Dir: bin, Version: version, How: "started from Maven binaries"}, nil
}

// unpackPostgres fetches the jar, takes the archive out of it and unpacks that.
func unpackPostgres(ctx context.Context, mvn, pom, dir string) (err error) {
	work, err := os.MkdirTemp("", "millrace-maven-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := runMaven(ctx, mvn, work, pom, filepath.Join(work, "jars")); err != nil {
		return err
	}
	jars, _ := filepath.Glob(filepath.Join(work, "jars", "*.jar"))
	if len(jars) != 1 {
		return fmt.Errorf("%d jars instead of one", len(jars))
	}
	archive := filepath.Join(work, "postgres.txz")
	if err := extract(jars[0], ".txz", archive); err != nil {
		return err
	}
	return proc.Run(ctx, nil, "tar", "--no-same-owner", "-xJf", archive, "-C", dir)
}

// extract copies the entry of a zip file that has the suffix.
func extract(zipFile, suffix, to string) error {
	z, err := zip.OpenReader(zipFile)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, entry := range z.File {
		if !strings.HasSuffix(entry.Name, suffix) {
			continue
		}
		from, err := entry.Open()
		if err != nil {
			return err
		}
		defer from.Close()
		out, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, from)
		return errors.Join(err, out.Close())
	}
	return fmt.Errorf("%s has no %s", zipFile, suffix)
}
