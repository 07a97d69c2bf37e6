package devices

import (
	"errors"
	"strings"
	"testing"

	"gqa/internal/device/cpu"
)

func TestOpen(t *testing.T) {
	for _, name := range []string{"", CPU} {
		d, err := Open(name, Options{})
		if _, ok := d.(*cpu.Device); !ok || err != nil {
			t.Errorf("%q is %T, %v", name, d, err)
		}
	}
	for _, name := range []string{"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "CPU"} {
		if _, err := Open(name, Options{}); err == nil || !strings.Contains(err.Error(), "want auto, cpu, cuda or cuda:N") {
			t.Errorf("%q: error %v", name, err)
		}
	}
	if err := Check("cuda:1"); (err == nil) != GPUs || err != nil && !errors.Is(err, ErrBuild) {
		t.Errorf("GPU 1 of a build that uses GPUs %v: %v", GPUs, err)
	}
	if d, err := Open(Auto, Options{}); d == nil || err != nil {
		t.Errorf("auto: %v", err)
	}
	if d, err := Open("cuda:99", Options{}); d != nil || err == nil {
		t.Errorf("GPU 99 is %T, %v", d, err)
	}
}
