package fetch

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests that change the environment are not parallel; a machine without Maven
// is one with an empty PATH.

func TestMain(m *testing.M) {
	progressOut = io.Discard
	stallLimit, retryPause, progressEvery = 500*time.Millisecond, time.Millisecond, time.Millisecond
	os.Exit(m.Run())
}

// jarOf is a jar that holds an archive of testdata.
func jarOf(t *testing.T, archive string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", archive))
	require.NoError(t, err)
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	w, err := z.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = w.Write(text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return jar.Bytes()
}

func artifactOf(jar []byte) artifact {
	sum := sha256.Sum256(jar)
	return artifact{group: "org.example", name: "programs", version: "1.2", sha256: hex.EncodeToString(sum[:])}
}

// mirror serves a jar where a Maven repository has it, under /maven2.
func mirror(t *testing.T, jar []byte) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/maven2/org/example/programs/1.2/programs-1.2.jar", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jar) })
	serve(t, mux)
}

func serve(t *testing.T, h http.Handler) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	t.Setenv(EnvMavenRepository, s.URL+"/maven2/")
	t.Setenv("PATH", t.TempDir())
}

func TestFetch_UnpacksTheProgramsForAllUsers(t *testing.T) {
	jar := jarOf(t, "programs.txz")
	mirror(t, jar)
	dir := t.TempDir()
	require.NoError(t, fetchPostgres(t.Context(), artifactOf(jar), dir))
	program, err := os.Stat(filepath.Join(dir, "bin", "postgres"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o744), program.Mode())
	link, err := os.Readlink(filepath.Join(dir, "lib", "libz.so.1"))
	require.NoError(t, err)
	require.Equal(t, "libz.so.1.2", link)
}

func TestFetch_RefusesWhatIsNotTheOriginal(t *testing.T) {
	jar := jarOf(t, "programs.txz")
	mirror(t, append(bytes.Clone(jar), 0))
	dir := t.TempDir()
	err := fetchPostgres(t.Context(), artifactOf(jar), dir)
	require.ErrorContains(t, err, "programs-1.2.jar: its SHA-256 must be "+artifactOf(jar).sha256)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFetch_TriesAgainWhenTheConnectionBreaks(t *testing.T) {
	jar := jarOf(t, "programs.txz")
	var asked atomic.Int32
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(jar[:10])
			return // the server closes the connection: less than it promised
		}
		_, _ = w.Write(jar)
	}))
	require.NoError(t, fetchPostgres(t.Context(), artifactOf(jar), t.TempDir()))
	require.Equal(t, int32(2), asked.Load())
}

func TestFetch_GivesUpOnAServerThatSendsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-ctx.Done():
		case <-r.Context().Done():
		}
	}))
	err := fetchPostgres(t.Context(), artifactOf(nil), t.TempDir())
	require.ErrorContains(t, err, "nothing arrived for 500ms")
	require.ErrorContains(t, err, EnvMavenRepository)
}

func TestFetch_ErrorNamesTheURLWithoutItsPassword(t *testing.T) {
	serve(t, http.NotFoundHandler())
	t.Setenv(EnvMavenRepository, strings.Replace(os.Getenv(EnvMavenRepository), "http://", "http://me:hush@", 1))
	err := fetchPostgres(t.Context(), artifactOf(nil), t.TempDir())
	require.ErrorContains(t, err, "/maven2/org/example/programs/1.2/programs-1.2.jar: the server answers 404 Not Found")
	require.NotContains(t, err.Error(), "hush")
}

func TestFetch_RefusesARepositoryThatIsNoURL(t *testing.T) {
	t.Setenv(EnvMavenRepository, "mirror.example")
	err := fetchPostgres(t.Context(), artifactOf(nil), t.TempDir())
	require.EqualError(t, err, `MILLRACE_MAVEN_REPOSITORY: must be the http or https URL of a Maven repository, is "mirror.example"`)
}

func TestFetch_AsksMavenWhereHTTPSDoesNotGetThrough(t *testing.T) {
	jar := jarOf(t, "programs.txz")
	serve(t, http.NotFoundHandler())
	bin := t.TempDir()
	source := filepath.Join(bin, "source.jar")
	require.NoError(t, os.WriteFile(source, jar, 0o600))
	script := `#!/bin/sh
for arg; do case $arg in -DoutputDirectory=*) to=${arg#*=} ;; *pom.xml) pom=$arg ;; esac; done
grep -q '<artifactId>programs</artifactId><version>1.2</version>' "$pom" && cp ` + source + ` "$to/programs-1.2.jar"
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "mvn"), []byte(script), 0o700))
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	dir := t.TempDir()
	require.NoError(t, fetchPostgres(t.Context(), artifactOf(jar), dir))
	require.FileExists(t, filepath.Join(dir, "bin", "postgres"))
}

func TestUnpack_WritesNothingOutsideOfItsFolder(t *testing.T) {
	t.Parallel()
	for _, archive := range []string{"outside.txz", "through-link.txz"} {
		t.Run(archive, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			require.NoError(t, os.Mkdir(dir, 0o700))
			f, err := os.Open(filepath.Join("testdata", archive))
			require.NoError(t, err)
			defer f.Close()
			require.Error(t, unpackTarXz(f, dir))
			require.NoFileExists(t, filepath.Join(parent, "outside"))
		})
	}
}

func TestKafkaJars_AreOfTheVersionThatIsNamed(t *testing.T) {
	t.Parallel()
	jars := listKafkaJars()
	require.Greater(t, len(jars), 40)
	var server string
	for _, a := range jars {
		require.Len(t, a.sha256, 64, a)
		require.NotEmpty(t, a.version, a)
		if a.name == "kafka_2.13" {
			server = a.version
		}
	}
	require.Equal(t, KafkaVersion, server)
}
