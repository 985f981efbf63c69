package networks

import "testing"

// BenchmarkAttach is what a container's network costs its supervisor, in time
// and in memory that it keeps: it does not collect garbage.
func BenchmarkAttach(b *testing.B) {
	t := b
	l := newLab(t)
	if _, err := l.Create(b.Context(), &Spec{Name: "app"}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		a, err := l.Attach(b.Context(), l.want("app", "one"))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		must(b, l.Detach(b.Context(), a, l.ns))
		b.StartTimer()
	}
}
