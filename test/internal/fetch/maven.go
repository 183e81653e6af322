package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// EnvMavenRepository is the URL of a mirror of Maven Central.
const EnvMavenRepository = "MILLRACE_MAVEN_REPOSITORY"

const mavenCentral = "https://repo.maven.apache.org/maven2"

// artifact is a jar of a Maven repository and what it must contain.
type artifact struct{ group, name, version, sha256 string }

func (a artifact) file() string { return a.name + "-" + a.version + ".jar" }

func (a artifact) path() string {
	return strings.ReplaceAll(a.group, ".", "/") + "/" + a.name + "/" + a.version + "/" + a.file()
}

// repository is the URL from which jars are downloaded.
func repository() (*url.URL, error) {
	raw := mavenCentral
	if v := os.Getenv(EnvMavenRepository); v != "" {
		raw = v
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: must be the http or https URL of a Maven repository, is %q", EnvMavenRepository, raw)
	}
	return u, nil
}

// fetchJars puts the jars into dir: by HTTPS from the repository, or else with
// Maven, which has its own mirrors and proxies. what names them for the user,
// with their size. Either way they must have the checksums that this program has.
func fetchJars(ctx context.Context, what string, jars []artifact, dir string) error {
	repo, err := repository()
	if err != nil {
		return err
	}
	Progress("downloading %s from %s, once; it is kept in %s", what, repo.Redacted(), cacheDir())
	err = downloadAll(ctx, repo, jars, dir)
	if err == nil || ctx.Err() != nil {
		return err
	}
	mvn, noMaven := exec.LookPath("mvn")
	if noMaven != nil {
		return fmt.Errorf("%w; behind a firewall set %s to a mirror of Maven Central, or install Maven", err, EnvMavenRepository)
	}
	Progress("%v; asking Maven for it", err)
	if mavenErr := copyJars(ctx, mvn, pomOf(jars), dir); mavenErr != nil {
		return errors.Join(err, mavenErr)
	}
	return verifyAll(jars, dir)
}

func downloadAll(ctx context.Context, repo *url.URL, jars []artifact, dir string) error {
	shown := startProgress()
	defer shown.stop()
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	defer client.CloseIdleConnections()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, a := range jars {
		g.Go(func() error {
			from, to := repo.JoinPath(a.path()), filepath.Join(dir, a.file())
			if err := download(ctx, client, from, to, shown); err != nil {
				return fmt.Errorf("download %s: %w", from.Redacted(), err)
			}
			return verify(a, dir)
		})
	}
	return g.Wait()
}

func verifyAll(jars []artifact, dir string) error {
	for _, a := range jars {
		if err := verify(a, dir); err != nil {
			return err
		}
	}
	return nil
}

// verify compares a jar in dir with its checksum.
func verify(a artifact, dir string) error {
	f, err := os.Open(filepath.Join(dir, a.file()))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != a.sha256 {
		return fmt.Errorf("%s: its SHA-256 must be %s, is %s: the download is damaged or not the original", a.file(), a.sha256, got)
	}
	return nil
}

// pom is a Maven project that depends on jars, and not on what they depend on.
type pom struct {
	XMLName      xml.Name     `xml:"http://maven.apache.org/POM/4.0.0 project"`
	Model        string       `xml:"modelVersion"`
	Group        string       `xml:"groupId"`
	Artifact     string       `xml:"artifactId"`
	Version      string       `xml:"version"`
	Packaging    string       `xml:"packaging"`
	Dependencies []dependency `xml:"dependencies>dependency"`
}

type dependency struct {
	Group     string     `xml:"groupId"`
	Artifact  string     `xml:"artifactId"`
	Version   string     `xml:"version"`
	Exclusion *exclusion `xml:"exclusions>exclusion"`
}

type exclusion struct {
	Group    string `xml:"groupId"`
	Artifact string `xml:"artifactId"`
}

func pomOf(jars []artifact) string {
	p := pom{Model: "4.0.0", Group: "millrace", Artifact: "for-tests", Version: "1", Packaging: "pom"}
	for _, a := range jars {
		p.Dependencies = append(p.Dependencies, dependency{Group: a.group, Artifact: a.name, Version: a.version,
			Exclusion: &exclusion{Group: "*", Artifact: "*"}})
	}
	text, err := xml.Marshal(p)
	if err != nil {
		panic(err) // the types above can always be written
	}
	return string(text)
}

// Jars lets Maven copy the artifacts that a POM depends on, and what they depend
// on, into dir. install says how to install Maven.
func Jars(ctx context.Context, pom, install, dir string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return NotInstalled("Maven", install)
	}
	return copyJars(ctx, mvn, pom, dir)
}

func copyJars(ctx context.Context, mvn, pom, dir string) error {
	work, err := os.MkdirTemp("", "millrace-maven-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, []byte(pom), 0o644); err != nil {
		return err
	}
	return proc.Run(ctx, nil, mvn, "-q", "-B", "-f", file, "dependency:copy-dependencies", "-DoutputDirectory="+dir)
}
