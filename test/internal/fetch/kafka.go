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
)

// KafkaVersion is the Apache Kafka that is downloaded. kafka-jars.txt lists the jars
// of this version: it and slf4j-simple with what they depend on.
const KafkaVersion = "4.4.0"

const (
	javaNeeded   = 17
	kafkaInstall = "apt-get install openjdk-17-jre-headless, brew install openjdk, or set MILLRACE_KAFKA_BROKERS to running brokers"
)

// EnvKafkaHome is a Kafka installation, or a folder with its jars, that is used
// instead of downloaded jars.
const EnvKafkaHome = "MILLRACE_KAFKA_HOME"

//go:embed kafka-jars.txt
var kafkaJars string // lines of group:name:version sha256

// Kafka is what a Kafka server is started from.
type Kafka struct {
	Java, Libs, Version, How string
}

// FindKafka finds a Java and the jars of Kafka, which it downloads once.
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
		return Kafka{}, notDownloaded(ctx, NotInstalled("Apache Kafka", "set "+EnvKafkaHome+" to its folder, or MILLRACE_KAFKA_BROKERS to running brokers"), err)
	}
	return Kafka{Java: java, Libs: libs, Version: KafkaVersion, How: "Apache Kafka, KRaft, downloaded to " + libs}, nil
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

// fetchKafka puts the jars into dir.
func fetchKafka(ctx context.Context, dir string) error {
	return fetchJars(ctx, "Apache Kafka "+KafkaVersion+" (45 MB)", listKafkaJars(), dir)
}

func listKafkaJars() (jars []artifact) {
	for line := range strings.Lines(kafkaJars) {
		var a artifact
		where, sum, _ := strings.Cut(strings.TrimSpace(line), " ")
		a.group, where, _ = strings.Cut(where, ":")
		a.name, a.version, _ = strings.Cut(where, ":")
		a.sha256 = sum
		jars = append(jars, a)
	}
	return jars
}
