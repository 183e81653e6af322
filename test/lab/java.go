package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

const javaInstall = "apt-get install default-jdk-headless maven, or brew install openjdk maven"

// javaHeapMB is the heap of a Java program under test.
const javaHeapMB = 128

// JavaProgram is compiled Java with the libraries that it needs.
type JavaProgram struct{ java, classpath string }

var compiled sync.Map // folder -> func() (*JavaProgram, error), once per process

// BuildJava compiles all *.java files of the folder dir, once for all tests of
// this run, against the artifacts that its pom.xml names. Maven fetches those
// once for each content of the pom.xml and keeps them between runs. The test
// fails if a JDK or Maven is missing, with what to install.
func BuildJava(t testing.TB, dir string) *JavaProgram {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal("lab:", err)
	}
	once, _ := compiled.LoadOrStore(dir, sync.OnceValues(func() (*JavaProgram, error) {
		return buildJava(context.Background(), dir)
	}))
	j, err := once.(func() (*JavaProgram, error))()
	if err != nil {
		t.Fatalf("lab: build Java in %s: %v", dir, err)
	}
	return j
}

// Start runs class with args; its standard input stays open for Program.Say.
func (j *JavaProgram) Start(t testing.TB, class string, args ...string) *Program {
	t.Helper()
	return StartProgram(t, ProgramConfig{Path: j.java, Interactive: true, Args: append([]string{
		fmt.Sprintf("-Xmx%dm", javaHeapMB), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true",
		"-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", j.classpath, class,
	}, args...)})
}

func buildJava(ctx context.Context, dir string) (*JavaProgram, error) {
	java, err := fetch.FindJava(ctx)
	if err != nil {
		return nil, err
	}
	pom, err := os.ReadFile(filepath.Join(dir, "pom.xml"))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("java-%x", sha256.Sum256(pom))[:21]
	libs, err := fetch.Cached(ctx, name, func(ctx context.Context, into string) error {
		fetch.Progress("fetching Java libraries through Maven (once)")
		return fetch.Jars(ctx, string(pom), javaInstall, into)
	})
	if err != nil {
		return nil, err
	}
	classes, err := compileJava(ctx, java, dir, libs)
	if err != nil {
		return nil, err
	}
	return &JavaProgram{java: java, classpath: classes + string(os.PathListSeparator) + filepath.Join(libs, "*")}, nil
}

// compileJava returns a folder of the run with the classes of the sources as they
// are now.
func compileJava(ctx context.Context, java, dir, libs string) (string, error) {
	javac, err := findJavac(java)
	if err != nil {
		return "", err
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.java"))
	if err != nil {
		return "", err
	}
	if len(sources) == 0 {
		return "", errors.New("there are no *.java files")
	}
	slices.Sort(sources)
	sum := sha256.New()
	fmt.Fprintln(sum, libs)
	for _, file := range sources {
		if err := addFile(sum, file); err != nil {
			return "", err
		}
	}
	folder, err := proc.RunFolder()
	if err != nil {
		return "", err
	}
	classes := filepath.Join(folder, fmt.Sprintf("java-%x", sum.Sum(nil)[:8]))
	lock, err := proc.Acquire(ctx, classes+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if proc.IsDir(classes) {
		return classes, nil
	}
	fresh := classes + ".part"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	args := append([]string{"-encoding", "UTF-8", "-Xlint:all,-processing", "-cp", filepath.Join(libs, "*"), "-d", fresh}, sources...)
	if err := proc.Run(ctx, nil, javac, args...); err != nil {
		return "", err
	}
	return classes, os.Rename(fresh, classes)
}

func addFile(sum hash.Hash, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintln(sum, filepath.Base(file))
	_, err = io.Copy(sum, f)
	return err
}

// findJavac returns the compiler of the JDK that java belongs to, or else the one
// of the search path.
func findJavac(java string) (string, error) {
	if target, err := filepath.EvalSymlinks(java); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(target), "javac")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("javac")
	if err != nil {
		return "", fetch.NotInstalled("A JDK (javac)", javaInstall)
	}
	return path, nil
}
