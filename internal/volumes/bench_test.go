package volumes

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func BenchmarkEnsure(b *testing.B) {
	for _, volatile := range []bool{false, true} {
		b.Run(fmt.Sprintf("volatile=%v", volatile), func(b *testing.B) {
			s, _ := newStore(b)
			for b.Loop() {
				must[*Claim](b)(s.Ensure(b.Context(), &Spec{Volatile: volatile})).Release()
			}
		})
	}
	b.Run("existing", func(b *testing.B) {
		s, _ := newStore(b)
		for b.Loop() {
			must[*Claim](b)(s.Ensure(b.Context(), &Spec{Name: "db"})).Release()
		}
	})
}

func BenchmarkRemove(b *testing.B) {
	s, _ := newStore(b)
	for b.Loop() {
		b.StopTimer()
		must[*Volume](b)(s.Create(b.Context(), &Spec{Name: "db", Volatile: true}))
		b.StartTimer()
		if err := s.Remove(b.Context(), "db"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	s, _ := newStore(b)
	for range 1000 {
		must[*Volume](b)(s.Create(b.Context(), &Spec{Volatile: true}))
	}
	for b.Loop() {
		must[[]*Volume](b)(s.List(b.Context()))
	}
}

func BenchmarkCopyUp(b *testing.B) {
	for _, files := range []int{0, 5, 40, 64, 65, 400} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			src := testenv.Dir(b)
			for i := range files {
				if err := os.WriteFile(filepath.Join(src, fmt.Sprint(i)), make([]byte, 20<<10), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			s, _ := newStore(b)
			for b.Loop() {
				b.StopTimer()
				v := must[*Volume](b)(s.Create(b.Context(), &Spec{Volatile: true}))
				b.StartTimer()
				if err := CopyUp(b.Context(), src, v.Source()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
