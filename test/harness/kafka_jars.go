package harness

import (
	"context"
	_ "embed" // the list of what to fetch
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// KafkaVersion is the Apache Kafka that the harness fetches from Maven.
const KafkaVersion = "4.4.0"

const (
	javaNeeded   = 17
	kafkaInstall = "apt-get install openjdk-17-jre-headless maven, brew install openjdk maven, or set " + EnvKafka
)

//go:embed kafka-pom.xml
var kafkaPOM string

// kafkaBin is what a Kafka server is started from.
type kafkaBin struct {
	java, libs, version, how string
}

// findKafka finds a Java and the jars of Kafka, which it fetches once.
func findKafka(ctx context.Context) (kafkaBin, error) {
	java, err := findJava(ctx)
	if err != nil {
		return kafkaBin{}, err
	}
	if home := os.Getenv(EnvKafkaHome); home != "" {
		return kafkaAt(java, home)
	}
	libs, err := cached(ctx, "kafka-"+KafkaVersion, fetchKafka)
	if err != nil {
		return kafkaBin{}, err
	}
	return kafkaBin{java: java, libs: libs, version: KafkaVersion, how: "Apache Kafka, KRaft, started from Maven jars"}, nil
}

// kafkaAt takes an installation's folder, or its folder of jars.
func kafkaAt(java, home string) (kafkaBin, error) {
	for _, libs := range []string{filepath.Join(home, "libs"), home} {
		jars, _ := filepath.Glob(filepath.Join(libs, "kafka_2.13-*.jar"))
		for _, jar := range jars {
			version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jar), "kafka_2.13-"), ".jar")
			return kafkaBin{java: java, libs: libs, version: version, how: "Apache Kafka, KRaft, started from " + libs}, nil
		}
	}
	return kafkaBin{}, fmt.Errorf("%s: no kafka_2.13 jar in %s", EnvKafkaHome, home)
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// findJava returns a java program that is new enough.
func findJava(ctx context.Context) (string, error) {
	path, err := exec.LookPath("java")
	if home := os.Getenv("JAVA_HOME"); err != nil && home != "" {
		path, err = exec.LookPath(filepath.Join(home, "bin", "java"))
	}
	if err != nil {
		return "", notInstalled("Java", kafkaInstall)
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w", path, err)
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s -version answers %q", path, out)
	}
	if n, err := strconv.Atoi(string(m[1])); err != nil || n < javaNeeded {
		return "", notInstalled(fmt.Sprintf("Java %d or later (there is %s)", javaNeeded, m[1]), kafkaInstall)
	}
	return path, nil
}

// fetchKafka lets Maven copy the jars into dir.
func fetchKafka(ctx context.Context, dir string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return notInstalled("Maven", kafkaInstall)
	}
	progress("fetching Apache Kafka %s through Maven (43 MB, once)", KafkaVersion)
	work, err := os.MkdirTemp("", "millrace-maven-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	return runMaven(ctx, mvn, work, strings.ReplaceAll(kafkaPOM, "@VERSION@", KafkaVersion), dir)
}

// runMaven copies the artifacts that pom depends on into dir.
func runMaven(ctx context.Context, mvn, work, pom, dir string) error {
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, []byte(pom), 0o644); err != nil {
		return err
	}
	return run(ctx, nil, mvn, "-q", "-B", "-f", file, "dependency:copy-dependencies", "-DoutputDirectory="+dir)
}
