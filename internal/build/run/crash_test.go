package run

func runChild(args []string) int { return 1 }
