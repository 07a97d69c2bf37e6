package train

import (
	"strings"
	"testing"
)

// What several processes cannot do together is refused by name, and one can do it.
func TestTeamRefuses(t *testing.T) {
	for set, want := range map[string]string{
		"optimizer.name=adafactor": "optimizer.name is adafactor",
		"optimizer.moments=8bit":   "optimizer.moments is 8bit",
	} {
		recipe, _ := smallRun(t, set)
		if err := solo(nil).check(&recipe); err != nil {
			t.Errorf("%s, alone: %v", set, err)
		}
		mustAmong(t, 2, func(among *team, _ int) error {
			if err := among.check(&recipe); err == nil || !strings.Contains(err.Error(), want+", which one process alone can do") {
				t.Errorf("%s: error %v", set, err)
			}
			return nil
		})
	}
}
