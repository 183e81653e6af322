package fetch

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

	"github.com/millrace-go/millrace/test/internal/proc"
)

// KafkaVersion is the Apache Kafka that the harness fetches from Maven.
const KafkaVersion = "4.4.0"

const (
	javaNeeded   = 17
	kafkaInstall = "apt-get install openjdk-17-jre-headless maven, brew install openjdk maven, or set MILLRACE_KAFKA_BROKERS"
)

// EnvKafkaHome is a Kafka installation, or a folder with its jars, that is used
// instead of the jars from Maven.
const EnvKafkaHome = "MILLRACE_KAFKA_HOME"

//go:embed kafka-pom.xml
var kafkaPOM string

// Kafka is what a Kafka server is started from.
type Kafka struct {
	Java, Libs, Version, How string
}

// FindKafka finds a Java and the jars of Kafka, which it fetches once.
func FindKafka(ctx context.Context) (Kafka, error) {
	java, err := FindJava(ctx)
	if err != nil {
		return Kafka{}, err
	}
	if home := os.Getenv(EnvKafkaHome); home != "" {
		return kafkaAt(java, home)
	}
	libs, err := Cached(ctx, "kafka-"+KafkaVersion, fetchKafka)
	if err != nil {
		return Kafka{}, err
	}
	return Kafka{Java: java, Libs: libs, Version: KafkaVersion, How: "Apache Kafka, KRaft, started from Maven jars"}, nil
}

// kafkaAt takes an installation's folder, or its folder of jars.
func kafkaAt(java, home string) (Kafka, error) {
	for _, libs := range []string{filepath.Join(home, "libs"), home} {
		jars, _ := filepath.Glob(filepath.Join(libs, "kafka_2.13-*.jar"))
		for _, jar := range jars {
			version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jar), "kafka_2.13-"), ".jar")
			return Kafka{Java: java, Libs: libs, Version: version, How: "Apache Kafka, KRaft, started from " + libs}, nil
		}
	}
	return Kafka{}, fmt.Errorf("%s: no kafka_2.13 jar in %s", EnvKafkaHome, home)
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// FindJava returns a java program that is new enough.
func FindJava(ctx context.Context) (string, error) {
	path, err := exec.LookPath("java")
	if home := os.Getenv("JAVA_HOME"); err != nil && home != "" {
		path, err = exec.LookPath(filepath.Join(home, "bin", "java"))
	}
	if err != nil {
		return "", NotInstalled("Java", kafkaInstall)
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
		return "", NotInstalled(fmt.Sprintf("Java %d or later (there is %s)", javaNeeded, m[1]), kafkaInstall)
	}
	return path, nil
}

// fetchKafka lets Maven copy the jars into dir.
func fetchKafka(ctx context.Context, dir string) error {
	Progress("fetching Apache Kafka %s through Maven (43 MB, once)", KafkaVersion)
	return Jars(ctx, strings.ReplaceAll(kafkaPOM, "@VERSION@", KafkaVersion), kafkaInstall, dir)
}

// Jars lets Maven copy the artifacts that pom depends on into dir. install says
// how to install Maven.
func Jars(ctx context.Context, pom, install, dir string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return NotInstalled("Maven", install)
	}
	work, err := os.MkdirTemp("", "millrace-maven-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	return runMaven(ctx, mvn, work, pom, dir)
}

// runMaven copies the artifacts that pom depends on into dir.
func runMaven(ctx context.Context, mvn, work, pom, dir string) error {
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, []byte(pom), 0o644); err != nil {
		return err
	}
	return proc.Run(ctx, nil, mvn, "-q", "-B", "-f", file, "dependency:copy-dependencies", "-DoutputDirectory="+dir)
}
