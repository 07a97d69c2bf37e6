// Package commtest holds a group of processes to the definitions in package comm.
package commtest

import (
	"fmt"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// Check runs every operation on buffers of d, in sizes that take different paths through a library, with several in progress at a
// time. All ranks must call it.
func Check(c comm.Comm, d device.Device) error {
	for _, n := range []int{1, 64, 5000, 1 << 18} {
		if err := reduces(c, d, n); err != nil {
			return fmt.Errorf("%d numbers: %w", n, err)
		}
		if err := moves(c, d, n); err != nil {
			return fmt.Errorf("%d numbers: %w", n, err)
		}
	}
	return hosts(c)
}

// number is element i of what a rank contributes: small integers, whose sums are exact in any order.
func number(rank, i int) float32 { return float32((rank+1)*(i%97) - i%13) }

func fill(rank, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = number(rank, i)
	}
	return x
}

func buffer(d device.Device, x []float32) device.Buffer {
	b := d.New(device.F32, len(x))
	d.Write(b, x)
	return b
}

func sum(size, i int) (s float32) {
	for rank := range size {
		s += number(rank, i)
	}
	return s
}

// reduces checks AllReduce and ReduceScatter while both are in progress.
func reduces(c comm.Comm, d device.Device, n int) error {
	all, rows := buffer(d, fill(c.Rank(), n)), buffer(d, fill(c.Rank(), n*c.Size()))
	row := buffer(d, make([]float32, n))
	first, second := c.AllReduce(all), c.ReduceScatter(row, rows)
	first.Wait()
	second.Wait()
	if err := same("all-reduce", d.Host(all), func(i int) float32 { return sum(c.Size(), i) }); err != nil {
		return err
	}
	return same("reduce-scatter", d.Host(row), func(i int) float32 { return sum(c.Size(), c.Rank()*n+i) })
}

// moves checks AllGather and Broadcast while both are in progress, also of 16-bit numbers where the device computes with them.
func moves(c comm.Comm, d device.Device, n int) error {
	root := c.Size() - 1
	rows := buffer(d, fill(1000, n*c.Size()))
	d.Write(rows.Slice(c.Rank()*n, (c.Rank()+1)*n), fill(c.Rank(), n))
	one := buffer(d, fill(c.Rank(), n))
	first, second := c.AllGather(rows), c.Broadcast(one, root)
	first.Wait()
	second.Wait()
	if err := same("all-gather", d.Host(rows), func(i int) float32 { return number(i/n, i%n) }); err != nil {
		return err
	}
	if err := same("broadcast", d.Host(one), func(i int) float32 { return number(root, i) }); err != nil {
		return err
	}
	if d.Activations() == device.F32 {
		return nil
	}
	half, wide := d.New(d.Activations(), n*c.Size()), d.New(device.F32, n*c.Size())
	d.Clear(half)
	d.Write(half.Slice(c.Rank()*n, (c.Rank()+1)*n), half97(c.Rank(), n))
	c.AllGather(half).Wait()
	d.Copy(wide, half)
	return same("all-gather of 16-bit numbers", d.Host(wide), func(i int) float32 { return half97(i/n, n)[i%n] })
}

// half97 returns integers that 16-bit formats represent.
func half97(rank, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rank + i%97)
	}
	return x
}

func same(what string, got []float32, want func(i int) float32) error {
	for i, x := range got {
		if w := want(i); x != w {
			return fmt.Errorf("%s: number %d is %v, want %v", what, i, x, w)
		}
	}
	return nil
}

func hosts(c comm.Comm) error {
	x := []float64{float64(c.Rank()), 0.1, 1e300}
	if err := c.Sum(x); err != nil {
		return err
	}
	n := float64(c.Size())
	tenths := 0.0
	for range c.Size() {
		tenths += 0.1
	}
	if want := n * (n - 1) / 2; x[0] != want || x[1] != tenths || x[2] != 1e300*n {
		return fmt.Errorf("sum: %v, want %v %v %v", x, want, tenths, 1e300*n)
	}
	if err := c.Barrier(); err != nil {
		return err
	}
	return c.Err()
}
