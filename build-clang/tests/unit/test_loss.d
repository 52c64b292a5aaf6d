build-clang/tests/unit/test_loss.o: tests/unit/test_loss.c sponsor/loss.h \
  common/mat.h

sponsor/loss.h:

common/mat.h:
