build-clang/sponsor/loss.o: sponsor/loss.c sponsor/loss.h common/mat.h

sponsor/loss.h:

common/mat.h:
