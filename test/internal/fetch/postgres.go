package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// PostgresVersion is the Postgres that is downloaded where none is installed.
const PostgresVersion = "18.1.0"

// postgresSums are the SHA-256 of the jars with the server programs, by platform.
var postgresSums = map[string]string{
	"linux-amd64":        "65d0723e0274ad3ec6230dcbdfe034af6ee096fce15a77b0f9b8be71d2702934",
	"linux-amd64-alpine": "845e48225afe404d5156108233feea746253232f1c2e217fed16286268021209",
	"linux-arm64v8":      "ea0f16b754fc0a10d9d8993bbd426c20f8c709b318b28e49b42d9cac1c958b8f",
	"darwin-amd64":       "3b4f16dcf57250d8f9c5e9270a7dfc3921b66d66534d00f8f366e8263e862d11",
	"darwin-arm64v8":     "7398c6c19d11594a944dc0ddc79fdbb611164312e1f509a8c86b09724027401e",
}

const postgresInstall = "apt-get install postgresql, apk add postgresql, brew install postgresql, " +
	"or set MILLRACE_POSTGRES_URL to a running server"

// FetchPostgres returns server programs from the cache, which is filled once.
func FetchPostgres(ctx context.Context) (Postgres, error) {
	platform := postgresPlatform()
	sum, ok := postgresSums[platform]
	if !ok {
		return Postgres{}, NotInstalled("Postgres", postgresInstall+" (there is nothing to download for "+platform+")")
	}
	dir, err := Cached(ctx, "postgres-"+PostgresVersion+"-"+platform, func(ctx context.Context, dir string) error {
		jar := artifact{"io.zonky.test.postgres", "embedded-postgres-binaries-" + platform, PostgresVersion, sum}
		return fetchPostgres(ctx, jar, dir)
	})
	if err != nil {
		return Postgres{}, notDownloaded(ctx, NotInstalled("Postgres", postgresInstall), err)
	}
	bin := filepath.Join(dir, "bin")
	version, err := postgresVersion(ctx, bin)
	if err != nil {
		return Postgres{}, fmt.Errorf("the downloaded Postgres does not run on this machine: %w; %w", err, NotInstalled("Postgres", postgresInstall))
	}
	return Postgres{Dir: bin, Version: version, How: "downloaded to " + dir}, nil
}

// postgresPlatform is this machine in the names of the jars.
func postgresPlatform() string {
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "arm64", "arm64v8", 1)
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		platform += "-alpine" // its C library is another one
	}
	return platform
}

func fetchPostgres(ctx context.Context, jar artifact, dir string) (err error) {
	work, err := os.MkdirTemp("", "millrace-postgres-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := fetchJars(ctx, "Postgres "+jar.version+" (15 to 33 MB)", []artifact{jar}, work); err != nil {
		return err
	}
	Progress("unpacking Postgres %s", jar.version)
	return unpackJar(filepath.Join(work, jar.file()), dir)
}
