from trainable.metrics import line, metrics_csv


def test_metrics_are_written_with_every_digit() -> None:
    row = {"epoch": 1, "train_loss": 1 / 3, "train_accuracy": 0.5, "valid_loss": 1e-17, "valid_accuracy": 1.0}
    assert metrics_csv([{**row, "lr": 1e-3, "seconds": 0.25}]) == (
        "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds\n"
        "1,0.3333333333333333,0.5,1e-17,1.0,0.001,0.25\n"
    )


def test_without_validation_there_are_no_columns_of_it() -> None:
    row = {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.25, "lr": 0.01, "seconds": 2.0}
    assert metrics_csv([row]) == "epoch,train_loss,train_accuracy,lr,seconds\n1,0.5,0.25,0.01,2.0\n"
    said = line("0003", row, 12).split(" ", 1)[1]
    assert said == "trial 0003 epoch  1/12  train loss 0.5000 accuracy 25.0%  lr 1.00e-02  2.0 s"
