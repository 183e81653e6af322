package lab_test

import (
	"testing"

	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
