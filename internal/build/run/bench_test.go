package run

import (
	"testing"
)

func BenchmarkTrue(b *testing.B) {
	for _, network := range []string{"none", ""} {
		b.Run("network="+network, func(b *testing.B) {
			e := newBench(b)
			for b.Loop() {
				s := e.step("true")
				s.Exec.Network = network
				must(b, e.Run(b.Context(), s))
			}
		})
	}
}
