package eval

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// cpuTimes are the times that all processors have spent since the machine started, in ticks, as Linux counts them.
type cpuTimes struct {
	all, busy float64
	steal     float64 // wanted, but used by other virtual machines
	own       float64 // by this process
	ok        bool
}

// readCPUTimes returns the times; without ok where the system does not tell.
func readCPUTimes() cpuTimes {
	stat, err := os.ReadFile("/proc/stat")
	self, errSelf := os.ReadFile("/proc/self/stat")
	if err != nil || errSelf != nil {
		return cpuTimes{}
	}
	return parseCPUTimes(string(stat), string(self))
}

// parseCPUTimes reads the texts of /proc/stat and /proc/self/stat (proc(5)).
func parseCPUTimes(stat, self string) (t cpuTimes) {
	line, _, _ := strings.Cut(stat, "\n")
	times := numbers(strings.TrimPrefix(line, "cpu "))
	_, behind, ok := strings.Cut(self, ") ") // the name of the command may contain spaces
	process := numbers(behind)
	const user, nice, system, irq, softirq, steal = 0, 1, 2, 5, 6, 7
	const utime, stime = 11, 12 // counted from the state, the third field
	if !ok || len(times) <= steal || len(process) <= stime {
		return cpuTimes{}
	}
	for _, x := range times[:steal+1] {
		t.all += x
	}
	for _, i := range []int{user, nice, system, irq, softirq} {
		t.busy += times[i]
	}
	t.steal, t.own, t.ok = times[steal], process[utime]+process[stime], true
	return t
}

// numbers parses fields; what is no number counts as 0.
func numbers(text string) (all []float64) {
	for _, field := range strings.Fields(text) {
		x, _ := strconv.ParseFloat(field, 64)
		all = append(all, x)
	}
	return all
}

// Shares of the processors' time from which on the load is worth a note, and of a time from which on its spread is.
const (
	muchSteal  = 0.01
	muchOthers = 0.05
	muchSpread = 0.05
)

// load returns the share of the processors' time that others used between two times; 0 if it is not known.
func load(before, after cpuTimes) float64 {
	all := after.all - before.all
	if !before.ok || !after.ok || all <= 0 {
		return 0
	}
	return max(0, after.busy-before.busy-after.own+before.own+after.steal-before.steal) / all
}

// loadNotes returns notes about what else used the processors between two times.
func loadNotes(before, after cpuTimes) (notes []string) {
	all := after.all - before.all
	if !before.ok || !after.ok || all <= 0 {
		return nil
	}
	if steal := (after.steal - before.steal) / all; steal > muchSteal {
		notes = append(notes, fmt.Sprintf("other virtual machines took %.0f%% of the processors' time (steal)", 100*steal))
	}
	if others := (after.busy - before.busy - after.own + before.own) / all; others > muchOthers {
		notes = append(notes, fmt.Sprintf("other processes used %.0f%% of the processors' time", 100*others))
	}
	return notes
}

// spreadNotes returns a note on the widest interval, relative to its median, if it is wide.
func spreadNotes(all []*timed) []string {
	widest := 0.0
	for _, x := range all {
		low, high := x.rounds.Interval()
		widest = max(widest, (high-low)/2/x.rounds.Median())
	}
	if widest < muchSpread {
		return nil
	}
	return []string{fmt.Sprintf("the 95%% interval of a time is up to ±%.0f%% wide", 100*widest)}
}
